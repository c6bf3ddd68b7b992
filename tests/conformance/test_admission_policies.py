"""The policies of `examples/kubernetes/admission.yaml` on a real API server: what a cluster has
instead of Knative's webhook.
"""

import itertools
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.domain.field_errors import render
from headrace.resources.broker import validate_update
from headrace.resources.kinds import BROKER
from headrace.resources.resource import Resource
from tests.support.kubernetes import KubernetesUnderTest
from tests.support.wait_until import wait_until

POLICIES = Path(__file__).parents[2] / "examples" / "kubernetes" / "admission.yaml"
CLASS = "eventing.knative.dev/broker.class"


@pytest.fixture(scope="module")
def cluster(kubernetes: KubernetesUnderTest) -> Iterator[KubernetesUnderTest]:
    """An API server with the policies, which need a moment to take effect."""
    kubernetes.kubectl("apply", "-f", str(POLICIES))
    try:
        _create(kubernetes, _broker("probe", {CLASS: "Kafka"}))
        # Until they take effect the class can change: each attempt needs another one.
        others = (f"{CLASS}=Other{number}" for number in itertools.count())
        wait_until(
            lambda: _annotate(kubernetes, "probe", next(others)).returncode != 0,
            30,
            "the policies are in force",
            every=0.2,
        )
        yield kubernetes
    finally:
        kubernetes.kubectl("delete", "-f", str(POLICIES))
        kubernetes.kubectl("delete", "brokers,triggers", "--all", "-n", "default")


def _broker(name: str, annotations: Mapping[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "annotations": dict(annotations)}
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "metadata": metadata,
        "spec": {},
    }


def _create(cluster: KubernetesUnderTest, document: Mapping[str, Any]) -> str:
    return cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(document)).stderr


def _annotate(
    cluster: KubernetesUnderTest, name: str, change: str
) -> subprocess.CompletedProcess[str]:
    return cluster.kubectl(
        "annotate", "--overwrite", "-n", "default", "broker", name, change, check=False
    )


@pytest.mark.clause("B5")
@pytest.mark.parametrize("after", ["MTChannelBasedBroker", ""])
def test_the_class_of_a_broker_cannot_change(cluster: KubernetesUnderTest, after: str) -> None:
    """Neither to another nor to none; the message is that of Headrace's own API."""
    before = _broker("fixed", {CLASS: "Kafka"})
    _create(cluster, before)
    refused = _annotate(cluster, "fixed", f"{CLASS}={after}" if after else f"{CLASS}-")
    expected = render(
        validate_update(
            Resource(BROKER, _broker("fixed", {CLASS: after} if after else {})),
            Resource(BROKER, before),
        )
    )
    assert refused.returncode != 0
    assert " ".join(expected.split()) in " ".join(refused.stderr.split())


def test_writes_that_do_not_change_the_class_are_accepted(cluster: KubernetesUnderTest) -> None:
    """Other annotations, and the default class of a Broker without one."""
    _create(cluster, _broker("open", {}))
    assert 0 == _annotate(cluster, "open", "example.com/note=x").returncode
    assert 0 != _annotate(cluster, "open", f"{CLASS}=Other").returncode
    assert 0 == _annotate(cluster, "open", f"{CLASS}=Kafka").returncode


def test_a_url_that_can_never_be_called_results_in_a_warning(cluster: KubernetesUnderTest) -> None:
    """The Trigger is accepted, and the warnings name each of its two destinations."""
    spec = {
        "broker": "default",
        "subscriber": {"uri": "bad://uri"},
        "delivery": {"deadLetterSink": {"uri": "bad://sink"}},
    }
    metadata = {"name": "uncallable", "namespace": "default"}
    warned = _create(
        cluster,
        {
            "apiVersion": "eventing.knative.dev/v1",
            "kind": "Trigger",
            "metadata": metadata,
            "spec": spec,
        },
    )
    assert (
        "bad://uri can never be called, only http and https URLs can; change spec.subscriber.uri"
        in warned
    )
    assert (
        "bad://sink can never be called, only http and https URLs can; change"
        " spec.delivery.deadLetterSink.uri" in warned
    )
    fine = {**spec, "subscriber": {"uri": "HTTPS://sink.example/"}, "delivery": {}}
    metadata = {"name": "callable", "namespace": "default"}
    assert "" == _create(
        cluster,
        {
            "apiVersion": "eventing.knative.dev/v1",
            "kind": "Trigger",
            "metadata": metadata,
            "spec": fine,
        },
    )
