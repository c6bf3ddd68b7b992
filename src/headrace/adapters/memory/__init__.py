"""In-memory implementations of the ports. They pass the contract tests of the real implementations,
and `headrace up` uses them with the embedded cluster.
"""
