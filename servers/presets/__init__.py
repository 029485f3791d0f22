"""What is publicly known of well-known MCP servers: data files, their rules, and how a form is filled from one."""
