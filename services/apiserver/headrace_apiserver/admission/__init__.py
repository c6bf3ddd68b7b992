"""Admission: what is checked and filled in between a request and the store."""
