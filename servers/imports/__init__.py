"""Servers from files that others wrote: clients' configurations and entries of the public registry."""
