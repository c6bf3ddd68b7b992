"""An Apache Kafka with listeners of a test's own, beside a plain one for `ApacheKafka` itself and
for the observer of the test.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.adapters.kafka.local.kafka_jars import missing_requirement
from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from tests.support.headrace_under_test import lasting_port


@dataclass(frozen=True, slots=True)
class KafkaWithListeners:
    """The running broker, and host:port of each listener by its name."""

    apache: ApacheKafka
    addresses: Mapping[str, str]


@contextlib.contextmanager
def kafka_with_listeners(
    directory: Path, protocols: Mapping[str, str], settings: Mapping[str, str]
) -> Iterator[KafkaWithListeners]:
    """Start it, stop it at the end. `protocols` has the security protocol of each listener by its
    name, `settings` what they need.
    """
    lack = missing_requirement()
    if lack is not None:
        pytest.skip(f"not proven here: needs an Apache Kafka with listeners of its own: {lack}")
    plain, controller = lasting_port(), lasting_port()
    place = directory / "kafka"
    place.mkdir()
    # As after an earlier run on this data: the listeners below need the ports before the first
    # start.
    (place / "ports").write_text(f"{plain} {controller}", encoding="ascii")
    addresses = {name: f"127.0.0.1:{lasting_port()}" for name in protocols}
    public = {"PLAINTEXT": f"127.0.0.1:{plain}", **addresses}
    listeners = ",".join(f"{name}://{address}" for name, address in public.items())
    kinds = {"CONTROLLER": "PLAINTEXT", "PLAINTEXT": "PLAINTEXT", **protocols}
    apache = ApacheKafka(
        place,
        heap_mb=384,
        settings={
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": listeners,
            "listener.security.protocol.map": ",".join(
                f"{name}:{kind}" for name, kind in kinds.items()
            ),
            "inter.broker.listener.name": "PLAINTEXT",
            **settings,
        },
    )
    try:
        apache.start()
        yield KafkaWithListeners(apache, addresses)
    finally:
        apache.kill()
