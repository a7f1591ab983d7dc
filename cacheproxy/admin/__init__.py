"""The local API on a Unix socket: look, purge, stop."""
