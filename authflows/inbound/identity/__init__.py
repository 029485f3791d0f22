"""Identity providers of the organisation: people sign in with them, and their JWTs open the door."""
