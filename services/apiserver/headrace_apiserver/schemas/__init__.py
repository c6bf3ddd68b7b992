"""Validation of objects against the schemas of their kinds: structural schemas, defaulting,
pruning, and CEL rules.
"""
