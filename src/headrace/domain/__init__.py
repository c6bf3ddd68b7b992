"""The rules of Headrace, and nothing else: no I/O, clock, randomness or threads, standard library
only.

What happens to an event is decided here; `services/` perform it through the ports of
`headrace.domain.ports`.
"""
