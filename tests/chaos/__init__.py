"""Tests under faults: a ledger run with every kind of fault, and one run for each window in which a
process can die.
"""
