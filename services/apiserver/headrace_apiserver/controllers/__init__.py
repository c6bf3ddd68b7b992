"""Controllers that run in the leader: namespaces, garbage collection, CRDs, Events."""
