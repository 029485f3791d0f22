"""The engine ends MCP on our side: for virtual servers, and where client and server share no protocol era."""
