"""The authorization server and protected resource of OAuth clients: they register, people approve, tokens are given."""
