"""What was counted is on the page under Knative's names too, if that is asked for."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client.samples import Sample

from headrace.runtime.knative_metrics import ATTEMPT_LABELS, ATTEMPTS, MILLISECONDS, SECONDS
from headrace.runtime.metrics import LATENCY_BUCKETS, Metrics
from tests.support.metrics_page import samples

BROKER = ("Broker", "shop", "orders")
TRIGGER = ("Trigger", "shop", "billing")
LABELS = ("kind", "namespace", "name")


def metrics(*, knative_names: bool = True) -> Metrics:
    """An ingress and a dispatcher: two events accepted and one refused, three attempts."""
    found = Metrics(process=False)
    found.knative_names = knative_names
    found.counter("ingress_events_accepted", "Events.", LABELS).labels(*BROKER).value += 2
    refused = found.counter("ingress_refused", "Requests.", (*LABELS, "code", "reason"))
    refused.labels(*BROKER, "4xx", "too-large").value += 1
    refused.labels(*BROKER, "4xx", "invalid-event").value += 1
    stored = found.histogram("ingress_stored_seconds", "Time.", LABELS).labels(*BROKER)
    for seconds in (0.004, 0.2):
        stored.observe(seconds)
    attempts = found.histogram(ATTEMPTS, "Time.", ATTEMPT_LABELS, exported=False)
    for status, seconds in (("200", 0.1), ("503", 0.7), ("", 60.0)):
        attempts.labels(*TRIGGER, *BROKER, status).observe(seconds)
    return found


def of(page: Sequence[Sample], name: str, /, **labels: str) -> list[float]:
    """The values of the samples that have these labels; an empty value: without the label."""
    return [
        each.value
        for each in page
        if each.name == name
        and all(each.labels.get(key, "") == value for key, value in labels.items())
    ]


@pytest.fixture(name="page", scope="module")
def _page() -> list[Sample]:
    """A page as a strict scraper reads it."""
    return samples(metrics().expose(openmetrics=True)[0].decode())


def test_without_the_setting_there_are_none() -> None:
    """Nor the histogram that is only their source."""
    page = metrics(knative_names=False).expose()[0].decode()
    assert "headrace_ingress_events_accepted_total{" in page
    assert "event_count" not in page
    assert "kn_eventing" not in page
    assert ATTEMPTS not in page


def test_our_own_names_stay(page: list[Sample]) -> None:
    """The same page as before, and the others after it."""
    plain = samples(metrics(knative_names=False).expose(openmetrics=True)[0].decode())
    assert plain == page[: len(plain)]
    added = {each.name for each in page[len(plain) :]}
    assert not {name for name in added if name.startswith("headrace_")}


def test_the_counter_of_the_kafka_broker_until_1_20(page: list[Sample]) -> None:
    """The queries of its dashboards are by job, `namespace_name` and `response_code_class`."""
    name = "event_count_1_total"
    receiver = {"name": "orders", "namespace_name": "shop", "consumer_name": ""}
    assert [2.0] == of(page, name, **receiver, response_code="202", response_code_class="2xx")
    assert [2.0] == of(page, name, **receiver, response_code="", response_code_class="4xx")
    dispatcher = {"name": "orders", "namespace_name": "shop", "consumer_name": "billing"}
    assert [1.0] == of(page, name, **dispatcher, response_code="200", response_code_class="2xx")
    # As there, an attempt without a response is in the class 5xx and has no code.
    assert [1.0] == of(page, name, **dispatcher, response_code="503", response_code_class="5xx")
    assert [1.0] == of(page, name, **dispatcher, response_code="", response_code_class="5xx")


def test_the_histogram_of_the_kafka_broker_until_1_20(page: list[Sample]) -> None:
    """In milliseconds, with the limits that its dashboards name."""
    name = "event_dispatch_latencies_ms"
    receiver = {"name": "orders", "namespace_name": "shop", "consumer_name": ""}
    assert [1.0] == of(page, f"{name}_bucket", **receiver, le="100.0")
    assert [2.0] == of(page, f"{name}_bucket", **receiver, le="500.0")
    assert [2.0] == of(page, f"{name}_bucket", **receiver, le="+Inf")
    assert [2.0] == of(page, f"{name}_count", **receiver)
    assert [pytest.approx(204.0)] == of(page, f"{name}_sum", **receiver)
    failed = {"consumer_name": "billing", "response_code": "503"}
    assert [0.0] == of(page, f"{name}_bucket", **failed, le="500.0")
    assert [1.0] == of(page, f"{name}_bucket", **failed, le="1000.0")


def test_the_histogram_of_the_kafka_broker_since_1_21(page: list[Sample]) -> None:
    """Its receiver has the labels of the Broker, its dispatcher those of the Trigger."""
    name = "kn_eventing_dispatch_latency_ms"
    receiver = {"kn_broker_name": "orders", "kn_broker_namespace": "shop"}
    assert [2.0] == of(page, f"{name}_count", **receiver, http_response_status_code="202")
    trigger = {"kn_trigger_name": "billing", "kn_trigger_namespace": "shop"}
    for status in ("200", "503", ""):
        found = of(page, f"{name}_count", **trigger, http_response_status_code=status)
        assert [1.0] == found
    assert [1.0] == of(page, f"{name}_bucket", http_response_status_code="200", le="100.0")
    assert [60_000.0] == of(page, f"{name}_sum", **trigger, http_response_status_code="")


def test_the_histogram_of_the_broker_over_channels(page: list[Sample]) -> None:
    """In seconds; the Trigger is in the destination."""
    name = "kn_eventing_dispatch_duration_seconds"
    broker = {"kn_broker_name": "orders", "kn_broker_namespace": "shop"}
    for destination, status in (("broker:orders.shop", "202"), ("trigger:billing.shop", "503")):
        labels = {
            **broker,
            "messaging_destination_name": destination,
            "http_response_status_code": status,
        }
        (count,) = of(page, f"{name}_count", **labels)
        assert of(page, f"{name}_bucket", **labels, le="+Inf") == [count]
    assert [1.0] == of(page, f"{name}_bucket", http_response_status_code="202", le="0.005")


@pytest.mark.parametrize(
    ("kind", "kafka", "generic"),
    [
        ("KafkaChannel", "kn_kafkachannel_name", "kn_channel_name"),
        ("InMemoryChannel", "kn_inmemorychannel_name", "kn_channel_name"),
    ],
)
def test_channels_have_labels_of_their_kind(kind: str, kafka: str, generic: str) -> None:
    """As in Knative, where only channels in memory use the generic ones."""
    found = Metrics(process=False)
    found.knative_names = True
    found.histogram("ingress_stored_seconds", "Time.", LABELS).labels(kind, "a", "b").observe(1.0)
    page = samples(found.expose(openmetrics=True)[0].decode())
    assert [1.0] == of(page, "kn_eventing_dispatch_latency_ms_count", **{kafka: "b"})
    assert [1.0] == of(page, "kn_eventing_dispatch_duration_seconds_count", **{generic: "b"})


def test_their_limits_are_limits_here() -> None:
    """One of Knative's buckets is the sum of some of them."""
    assert {*MILLISECONDS, *SECONDS} <= {*LATENCY_BUCKETS}


def test_a_process_without_events_has_none() -> None:
    """No empty family."""
    found = Metrics(process=False)
    found.knative_names = True
    found.counter("controller_x", "X.").labels().value += 1
    assert b"event" not in found.expose()[0]


WORKER = """
from headrace.runtime.metrics import Metrics
metrics = Metrics()
metrics.knative_names = True
labels = ("kind", "namespace", "name")
metrics.histogram("ingress_stored_seconds", "Time.", labels).labels("Broker", "a", "b").observe(0.2)
metrics.counter("ingress_events_accepted", "E.", labels).labels("Broker", "a", "b").value += 1
print(metrics.expose()[0].decode())
"""


def test_several_workers_are_summed(tmp_path: Path) -> None:
    """The parent writes one page for all."""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    pages = [
        subprocess.run(
            [sys.executable, "-c", WORKER],
            env=environ,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    labels = 'name="b",namespace_name="a",response_code="202",response_code_class="2xx"'
    assert f"event_count_1_total{{{labels}}} 2.0" in pages[1]
    assert f'event_dispatch_latencies_ms_bucket{{le="500.0",{labels}}} 2.0' in pages[1]
    assert f"event_dispatch_latencies_ms_count{{{labels}}} 2.0" in pages[1]
