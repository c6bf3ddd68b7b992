"""What an object may be: schemas, defaults, pruning, rules in CEL, and the admission that puts them
together.
"""
