"""Selecting objects, and following them."""
