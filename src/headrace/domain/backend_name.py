"""Which backend a topic or a consumer group is in.

A name without a colon is a name in Kafka, where a colon is not allowed. All other backends have a
prefix: `in-memory:orders`. The data plane treats names as opaque; only the adapters that choose
between backends, and the table of routes, look at the prefix.
"""

KAFKA = "kafka"
IN_MEMORY = "in-memory"
JETSTREAM = "jetstream"

BACKENDS = (KAFKA, IN_MEMORY, JETSTREAM)

_SEPARATOR = ":"


def backend_of(name: str) -> str:
    """Return the backend of a topic or group."""
    prefix, separator, _ = name.partition(_SEPARATOR)
    return prefix if separator else KAFKA


def with_backend(backend: str, name: str) -> str:
    """Return the name of a topic or group in this backend."""
    return name if backend == KAFKA else f"{backend}{_SEPARATOR}{name}"


def without_backend(name: str) -> str:
    """Return the name without the prefix of its backend."""
    return name.rpartition(_SEPARATOR)[2]
