"""In-memory twins of the ports. They pass the contract suites of the real ones and run behind
`headrace up`'s embedded cluster.
"""
