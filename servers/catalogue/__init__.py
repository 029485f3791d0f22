"""What a server offers, as it was read, approved and is served."""
