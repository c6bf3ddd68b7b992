"""Parsing of requests: path, query and body."""
