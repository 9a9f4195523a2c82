"""What travels between client and server; pure. Start with `operations`, the table of all calls."""
