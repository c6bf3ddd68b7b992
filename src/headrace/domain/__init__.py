"""The rules of Headrace as pure code: no I/O, clock, randomness or threads; standard library only.

This package decides what happens to an event. The services carry out the decisions through the
ports of `headrace.domain.ports`.
"""
