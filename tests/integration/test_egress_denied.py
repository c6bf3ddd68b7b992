"""A dispatcher process with its default egress policy, and Triggers with subscribers on this
machine: the denial is reported immediately, and nothing is lost.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.headrace_under_test import (
    HeadraceUnderTest,
    condition,
    group_of,
    kafka_for_headrace,
    wait_for_events,
)
from tests.support.ledger import numbered
from tests.support.manifests import Manifest, broker, delivery, trigger
from tests.support.processes import LOOPBACK_SUBSCRIBERS
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

pytestmark = pytest.mark.kafka
NAMESPACE = "egress"
SHOWN_SECONDS = 10.0


@pytest.mark.timeout(180)
def test_loopback_is_denied_by_default_and_allowed_by_the_setting(tmp_path: Path) -> None:
    """The condition is set before the first event, and the event becomes a dead letter `refused`.
    With the setting, the next event arrives.
    """
    nothing_set = dict.fromkeys(LOOPBACK_SUBSCRIBERS, "")
    with kafka_for_headrace(tmp_path) as apache:
        system = HeadraceUnderTest(
            apache.bootstrap_servers, tmp_path, own_env={"dispatcher": nothing_set}
        )
        try:
            system.start()
            system.sinks.script("loop", Script(record=True))
            url = system.sinks.url("loop")
            sink = delivery(sink=url, retry=1)
            manifests = [
                trigger(NAMESPACE, "literal", url, broker="b"),
                trigger(NAMESPACE, "name", url.replace("127.0.0.1", "localhost"), broker="b"),
                trigger(
                    NAMESPACE,
                    "sink",
                    "http://192.0.2.1:1/",
                    broker="b",
                    delivery=sink,
                    attributes={"type": "none"},
                ),
            ]
            system.establish(broker(NAMESPACE, "b"), *manifests)
            _expect_denied_conditions(system, manifests)
            _expect_refused_dead_letters(system, manifests[:2])
            system.services["dispatcher-0"].stop()
            system.run("dispatcher-0", env=LOOPBACK_SUBSCRIBERS)
            system.wait_until_ready("dispatcher-0")
            _expect_allowed_but_own_ports(system, manifests[0])
        finally:
            system.close()


def _health(system: HeadraceUnderTest, manifest: Manifest) -> Mapping[str, Any]:
    return condition(system.get(manifest) or {}, "DeliveryHealthy")


def _expect_denied_conditions(system: HeadraceUnderTest, manifests: Sequence[Manifest]) -> None:
    for manifest in manifests:

        def shown(manifest: Manifest = manifest) -> bool:
            health = _health(system, manifest)
            return (
                health.get("reason") == "EgressDenied"
                and next(iter(LOOPBACK_SUBSCRIBERS)) in health["message"]
            )

        wait_until(shown, SHOWN_SECONDS, f"{manifest['metadata']['name']} shows that it is denied")


def _expect_refused_dead_letters(system: HeadraceUnderTest, manifests: Sequence[Manifest]) -> None:
    assert system.send(numbered(system.seed, "x", 0), f"/{NAMESPACE}/b") == 202
    for manifest in manifests:
        dead = f"{group_of(system.get(manifest) or manifest)}.dead"
        wait_until(
            lambda dead=dead: len(system.log.records(dead)) == 1,  # type: ignore[misc]
            15.0,
            f"the event is in {dead}",
            every=0.2,
        )
        (record,) = system.log.records(dead)
        assert dict(record.headers)["headrace_reason"].startswith(b"refused: ")
    assert 0 == system.sinks.counts("loop").get("requests", 0)
    page = system.metrics("dispatcher-0")
    assert (
        'headrace_egress_denied{kind="Trigger",name="literal",'
        f'namespace="{NAMESPACE}"}} 1.0' in page
    )
    assert (
        'headrace_attempts_total{kind="Trigger",name="name",'
        f'namespace="{NAMESPACE}",outcome="refused"}} 1.0' in page
    )
    assert "\nheadrace_dispatcher_connections_opened_total 0.0\n" in page
    assert "\nheadrace_dispatcher_connections_failed_total 0.0\n" not in page
    assert "egress_denied" in system.services["dispatcher-0"].output()


def _expect_allowed_but_own_ports(system: HeadraceUnderTest, manifest: Manifest) -> None:
    assert system.send(numbered(system.seed, "x", 1), f"/{NAMESPACE}/b") == 202
    wait_for_events(system, "loop", 1)
    wait_until(
        lambda: _health(system, manifest).get("reason") != "EgressDenied",
        SHOWN_SECONDS,
        "it is allowed",
    )
    own = trigger(
        NAMESPACE,
        "own",
        f"{system.management_url('dispatcher-0')}/metrics",
        broker="b",
        attributes={"type": "none"},
    )
    system.establish(own)
    wait_until(
        lambda: "takes no events" in _health(system, own).get("message", ""),
        SHOWN_SECONDS,
        "our own management port is denied all the same",
    )
