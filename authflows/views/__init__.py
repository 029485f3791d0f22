"""The pages of people: sign-in, set-up, portal. Thin; the rules are in `authflows.inbound`."""
