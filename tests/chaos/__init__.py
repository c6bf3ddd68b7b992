"""The proofs under faults: a ledger run with everything going wrong, and one run for each window in
which a process can die.
"""
