"""The policies of `examples/kubernetes/admission.yaml` on a real API server: what a cluster has
instead of Knative's webhook.
"""

import itertools
import subprocess
from collections.abc import Iterator, Mapping, Sequence
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


KNATIVE = "eventing.knative.dev", "messaging.knative.dev"
AUTHOR = "jane"


@pytest.fixture
def author(cluster: KubernetesUnderTest) -> Iterator[None]:
    """A user who may create everything of Knative's in `default`, and nothing elsewhere."""
    _allow(cluster, "author", "default", KNATIVE, ["*"], ["create", "get", "patch", "update"])
    yield
    for namespace in ("default", "kube-public"):
        roles = ("role,rolebinding", "author", "-n", namespace)
        cluster.kubectl("delete", *roles, "--ignore-not-found")


def _allow(
    cluster: KubernetesUnderTest,
    name: str,
    namespace: str,
    groups: Sequence[str],
    resources: Sequence[str],
    verbs: Sequence[str],
) -> None:
    rbac, metadata = "rbac.authorization.k8s.io", {"name": name, "namespace": namespace}
    rule = {"apiGroups": [*groups], "resources": [*resources], "verbs": [*verbs]}
    role = {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]}
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "subjects": [{"kind": "User", "name": AUTHOR, "apiGroup": rbac}],
        "roleRef": {"kind": "Role", "name": name, "apiGroup": rbac},
    }
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([role, binding]))


def _create_as(cluster: KubernetesUnderTest, document: Mapping[str, Any]) -> str:
    """What kubectl says; empty if the object would be created."""
    text, dry = yaml.safe_dump(document), "--dry-run=server"
    created = cluster.kubectl("create", dry, "--as", AUTHOR, "-f", "-", stdin=text, check=False)
    return created.stderr if created.returncode else ""


def _linked(kind: str, name: str, namespace: str) -> dict[str, Any]:
    """A Trigger or Subscription in `default` to an object in another namespace."""
    group = KNATIVE[0] if kind == "Trigger" else KNATIVE[1]
    field, other = ("brokerRef", "Broker") if kind == "Trigger" else ("channel", "Channel")
    reference = {
        "apiVersion": f"{group}/v1",
        "kind": other,
        "name": "shared",
        "namespace": namespace,
    }
    return {
        "apiVersion": f"{group}/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {field: reference, "subscriber": {"uri": "http://sink.example/"}},
    }


@pytest.mark.parametrize(
    ("kind", "resource"), [("Trigger", "brokers"), ("Subscription", "channels")]
)
@pytest.mark.usefixtures("author")
def test_a_link_to_another_namespace_needs_the_permission_to_subscribe_there(
    cluster: KubernetesUnderTest, kind: str, resource: str
) -> None:
    """The verb is Knative's `knsubscribe`, on the very object; none is needed in the own
    namespace.
    """
    assert "" == _create_as(cluster, _linked(kind, "near", "default"))
    far = _linked(kind, "far", "kube-public")
    wait_until(lambda: _create_as(cluster, far), 30, "the policy is in force", every=0.2)
    refused = _create_as(cluster, far)
    assert f"user {AUTHOR} is not authorized to get target resource in namespace: kube-public" in (
        refused
    )
    assert f"verb knsubscribe on {resource}/shared" in refused
    group = KNATIVE[0] if kind == "Trigger" else KNATIVE[1]
    _allow(cluster, "author", "kube-public", [group], [resource], ["knsubscribe"])
    wait_until(lambda: not _create_as(cluster, far), 30, "the permission is in force", every=0.2)


def test_subscribers_of_a_kafka_channel_are_not_for_users(cluster: KubernetesUnderTest) -> None:
    """One that is added is refused in Knative's words; one that was there may stay or go, with a
    warning.
    """

    def channel(*uids: str) -> dict[str, Any]:
        entries = [{"uid": each, "subscriberUri": "http://a.example/"} for each in uids]
        return {
            "apiVersion": "messaging.knative.dev/v1beta1",
            "kind": "KafkaChannel",
            "metadata": {"name": "subscribed", "namespace": "default"},
            "spec": {"subscribers": entries},
        }

    assert "spec.subscribers has no effect" in _create(cluster, channel("one", "two"))
    assert "spec.subscribers has no effect" in _create(cluster, channel("two"))
    text = yaml.safe_dump(channel("two", "three"))
    refused = cluster.kubectl("apply", "-f", "-", stdin=text, check=False)
    assert refused.returncode != 0
    assert "Channel.Spec.Subscribers changed by user admin which was not the" in refused.stderr
    assert "" == _create(cluster, channel())
    cluster.kubectl("delete", "kafkachannels", "--all", "-n", "default")
