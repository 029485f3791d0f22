"""Virtual servers: one URL for the items of several servers."""
