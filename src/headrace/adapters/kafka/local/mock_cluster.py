"""A Kafka cluster in the memory of this process: the mock cluster that librdkafka contains for its
own tests, as shipped in the confluent-kafka wheel.

For `headrace up` on a machine without Kafka. Other processes may connect too. Limits: it keeps
nothing over a restart, creates any topic at its first use (4 partitions), does not wake a waiting
fetch, and drops the oldest records of a partition above 5 MiB.

The client library has no Python call for its settings. They are set through ctypes on the library
that the wheel has loaded. Where that is not possible the cluster still runs, but the first group
assignment takes 3.1 s instead of being immediate.
"""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import confluent_kafka

from headrace.domain.errors import LogUnavailable, Permanent

REBALANCE_DELAY_MS = 20
_ERROR_BYTES = 512
_PRODUCER = 0
_FIRST_BROKER = 1
_CONF_OK = 0


class MockCluster:
    """The mock cluster: `start`, use `bootstrap_servers`, `stop`. Its contents are lost then."""

    def __init__(self, *, brokers: int = 1) -> None:
        self._brokers = brokers
        self._handle: _CtypesCluster | _DefaultCluster | None = None

    def start(self) -> None:
        """Create the cluster. It answers when this returns (a few milliseconds). Raises
        `LogUnavailable`.
        """
        if self._handle is None:
            library = _library()
            self._handle = (
                _DefaultCluster(self._brokers)
                if library is None
                else _CtypesCluster(library, self._brokers)
            )

    @property
    def bootstrap_servers(self) -> str:
        """Addresses of its brokers, on the loopback interface."""
        return self._running().bootstrap_servers

    @property
    def tuned(self) -> bool:
        """Whether its settings could be set. If so, groups assign partitions immediately and
        `create_topic` works.
        """
        return isinstance(self._running(), _CtypesCluster)

    def create_topic(self, name: str, partitions: int) -> bool:
        """Create a topic with this many partitions. False when only automatic creation is
        possible.
        """
        handle = self._running()
        return isinstance(handle, _CtypesCluster) and handle.create_topic(name, partitions)

    def delete_topic(self, name: str) -> bool:
        """Delete a topic with its records and the offsets committed in it. False when it does not
        exist or cannot be deleted.
        """
        handle = self._running()
        return isinstance(handle, _CtypesCluster) and handle.delete_topic(name)

    def stop(self) -> None:
        """Stop the cluster. Idempotent. Connected clients lose their brokers."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()

    def _running(self) -> "_CtypesCluster | _DefaultCluster":
        if self._handle is None:
            raise Permanent("the embedded Kafka has not been started")
        return self._handle


class _CtypesCluster:
    """The cluster, created through the C interface."""

    def __init__(self, library: ctypes.CDLL, brokers: int) -> None:
        self._library = library
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        conf = library.rd_kafka_conf_new()
        for name, value in _settings().items():
            if (
                library.rd_kafka_conf_set(conf, name.encode(), value.encode(), error, _ERROR_BYTES)
                != _CONF_OK
            ):
                raise LogUnavailable(
                    f"the embedded Kafka refused its setting {name}:"
                    f" {error.value.decode(errors='replace')}"
                )
        # A successful rd_kafka_new owns `conf`.
        self._client = library.rd_kafka_new(_PRODUCER, conf, error, _ERROR_BYTES)
        if not self._client:
            raise LogUnavailable(
                f"the embedded Kafka could not start: {error.value.decode(errors='replace')}"
            )
        self._cluster = library.rd_kafka_mock_cluster_new(self._client, brokers)
        if not self._cluster:
            library.rd_kafka_destroy(self._client)
            raise LogUnavailable("the embedded Kafka could not open its loopback ports")
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, REBALANCE_DELAY_MS)
        # Clients ask the controller for the ids of topics. Without a controller each of them waits
        # until its deadline, also when it is closed.
        library.rd_kafka_mock_set_controller_id(self._cluster, _FIRST_BROKER)
        self.bootstrap_servers: str = library.rd_kafka_mock_cluster_bootstraps(
            self._cluster
        ).decode("ascii")

    def create_topic(self, name: str, partitions: int) -> bool:
        created: int = self._library.rd_kafka_mock_topic_create(
            self._cluster, name.encode(), partitions, 1
        )
        return created == 0

    def delete_topic(self, name: str) -> bool:
        deleted: int = self._library.rd_kafka_mock_topic_delete(self._cluster, name.encode())
        return deleted == 0

    def close(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)


class _DefaultCluster:
    """The cluster of an ordinary producer, with default settings."""

    def __init__(self, brokers: int) -> None:
        self._producer: Any = confluent_kafka.Producer(
            {**_settings(), "test.mock.num.brokers": str(brokers)}
        )
        try:
            metadata = self._producer.list_topics(timeout=5)
        except confluent_kafka.KafkaException as error:
            raise LogUnavailable(f"the embedded Kafka could not start: {error}") from error
        self.bootstrap_servers = ",".join(
            f"{broker.host}:{broker.port}" for broker in metadata.brokers.values()
        )

    def close(self) -> None:
        self._producer = None


def _settings() -> Mapping[str, str]:
    return {"client.id": "headrace-embedded", "log_level": "0"}


def _library() -> ctypes.CDLL | None:
    """Return the librdkafka that the wheel has loaded; None when it is not where wheels put it or
    lacks a required function.
    """
    package = Path(confluent_kafka.__file__).parent
    bundled = [
        *package.parent.glob("confluent_kafka.libs/librdkafka*"),
        *package.glob(".dylibs/librdkafka*"),
    ]
    if len(bundled) != 1:
        return None
    try:
        library = ctypes.CDLL(str(bundled[0]))
        _declare(library)
    except (OSError, AttributeError):
        return None
    return library


def _declare(library: ctypes.CDLL) -> None:
    """Declare the types of the functions used, as in rdkafka.h and rdkafka_mock.h. Without them
    pointers are truncated to 32 bits.
    """
    pointer, text, number, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (number, [pointer, text, text, text, size]),
        "rd_kafka_new": (pointer, [number, pointer, text, size]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, number]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_topic_create": (number, [pointer, text, number, number]),
        "rd_kafka_mock_topic_delete": (number, [pointer, text]),
        "rd_kafka_mock_set_controller_id": (number, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
