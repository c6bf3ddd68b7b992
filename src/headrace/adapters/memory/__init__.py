"""In-memory implementations of the ports. They pass the same contract tests as the real
implementations, and `headrace up` uses them with the embedded cluster.
"""
