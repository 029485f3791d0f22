"""One file per way of authenticating to an upstream server."""
