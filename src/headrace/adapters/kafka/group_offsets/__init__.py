"""Reads and commits the offsets of consumer groups without being a member of them."""
