"""Protobuf bodies: those that kubectl 1.32 sent for its `create` commands, and malformed ones."""

import base64
import struct
from typing import Any

import pytest

from headrace.codec.objects import InvalidObject
from headrace_apiserver.requests.protobuf import decode_protobuf
from headrace_apiserver.statuses import StatusError

DOCKER = base64.b64encode(
    b'{"auths":{"https://index.docker.io/v1/":{"username":"u","password":"p","auth":"dTpw"}}}'
).decode()
SENT: dict[str, tuple[str, dict[str, Any]]] = {
    "create ns tapped": (
        "azhzAAoPCgJ2MRIJTmFtZXNwYWNlEh4KFgoGdGFwcGVkEgAaACIAKgAyADgAQgASABoCCgAaACIA",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tapped"}},
    ),
    "create configmap cm1 --from-literal=a=1 --from-literal=b=": (
        "azhzAAoPCgJ2MRIJQ29uZmlnTWFwEisKGgoDY20xEgAaB2RlZmF1bHQiACoAMgA4AEIAEgYKAWESATESBQoBYhIAGgAiAA==",
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "cm1", "namespace": "default"},
            "data": {"a": "1", "b": ""},
        },
    ),
    "create configmap cm2 --from-file=bin": (
        "azhzAAoPCgJ2MRIJQ29uZmlnTWFwEisKGgoDY20yEgAaB2RlZmF1bHQiACoAMgA4AEIAGg0KA2JpbhIG//4AYmluGgAiAA==",
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "cm2", "namespace": "default"},
            "binaryData": {"bin": "//4AYmlu"},
        },
    ),
    "create secret generic s1 --from-literal=p=w": (
        "azhzAAoMCgJ2MRIGU2VjcmV0EiUKGQoCczESABoHZGVmYXVsdCIAKgAyADgAQgASBgoBcBIBdxoAGgAiAA==",
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s1", "namespace": "default"},
            "data": {"p": "dw=="},
        },
    ),
    "create secret docker-registry dr --docker-username=u --docker-password=p": (
        "azhzAAoMCgJ2MRIGU2VjcmV0EqkBChkKAmRyEgAaB2RlZmF1bHQiACoAMgA4AEIAEmwKES5kb2NrZXJjb25maWdqc29uEld7ImF1dGhzIjp7Imh0dHBzOi8vaW5kZXgu"
        "ZG9ja2VyLmlvL3YxLyI6eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InAiLCJhdXRoIjoiZFRwdyJ9fX0aHmt1YmVybmV0ZXMuaW8vZG9ja2VyY29uZmlnanNvbhoA"
        "IgA=",
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "dr", "namespace": "default"},
            "data": {".dockerconfigjson": DOCKER},
            "type": "kubernetes.io/dockerconfigjson",
        },
    ),
    "create serviceaccount sa1": (
        "azhzAAoUCgJ2MRIOU2VydmljZUFjY291bnQSHAoaCgNzYTESABoHZGVmYXVsdCIAKgAyADgAQgAaACIA",
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "sa1", "namespace": "default"},
        },
    ),
    "create service externalname e1 --external-name=example.com --tcp=80:8080": (
        "azhzAAoNCgJ2MRIHU2VydmljZRJ7CiQKAmUxEgAaB2RlZmF1bHQiACoAMgA4AEIAWgkKA2FwcBICZTESTwobCgc4MC04MDgwEgNUQ1AYUCIHCAAQkD8aACgAEgkKA2Fw"
        "cBICZTEaACIMRXh0ZXJuYWxOYW1lOgBCAFILZXhhbXBsZS5jb21aAGAAaAAaAgoAGgAiAA==",
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "e1", "namespace": "default", "labels": {"app": "e1"}},
            "spec": {
                "ports": [{"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080}],
                "selector": {"app": "e1"},
                "type": "ExternalName",
                "externalName": "example.com",
            },
        },
    ),
    "create service clusterip c1 --tcp=80:http": (
        "azhzAAoNCgJ2MRIHU2VydmljZRJwCiQKAmMxEgAaB2RlZmF1bHQiACoAMgA4AEIAWgkKA2FwcBICYzESRAoeCgc4MC1odHRwEgNUQ1AYUCIKCAEQABoEaHR0cCgAEgkK"
        "A2FwcBICYzEaACIJQ2x1c3RlcklQOgBCAFIAWgBgAGgAGgIKABoAIgA=",
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "c1", "namespace": "default", "labels": {"app": "c1"}},
            "spec": {
                "ports": [{"name": "80-http", "protocol": "TCP", "port": 80, "targetPort": "http"}],
                "selector": {"app": "c1"},
                "type": "ClusterIP",
            },
        },
    ),
    "auth can-i create things.test.dev": (
        "azhzAAoyChdhdXRob3JpemF0aW9uLms4cy5pby92MRIXU2VsZlN1YmplY3RBY2Nlc3NSZXZpZXcSSQoQCgASABoAIgAqADIAOABCABIrCikKB2RlZmF1bHQSBmNyZWF0"
        "ZRoIdGVzdC5kZXYiACoGdGhpbmdzMgA6ABoICAASABoAIAAaACIA",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {
                "resourceAttributes": {
                    "namespace": "default",
                    "verb": "create",
                    "group": "test.dev",
                    "resource": "things",
                },
            },
        },
    ),
    "auth can-i --list": (
        "azhzAAoxChdhdXRob3JpemF0aW9uLms4cy5pby92MRIWU2VsZlN1YmplY3RSdWxlc1JldmlldxIjChAKABIAGgAiACoAMgA4AEIAEgkKB2RlZmF1bHQaBBgAIgAaACIA",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": "default"},
        },
    ),
    "auth whoami": (
        "azhzAAotChhhdXRoZW50aWNhdGlvbi5rOHMuaW8vdjESEVNlbGZTdWJqZWN0UmV2aWV3EhoKEAoAEgAaACIAKgAyADgAQgASBgoECgASABoAIgA=",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
    ),
}


def number(value: int) -> bytes:
    """A varint."""
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def part(field: int, value: bytes | int) -> bytes:
    """One field of a message."""
    if isinstance(value, int):
        return number(field << 3) + number(value)
    return number(field << 3 | 2) + number(len(value)) + value


def body(api_version: str, kind: str, message: bytes, further: bytes = b"") -> bytes:
    """A message in its envelope."""
    return (
        b"k8s\0"
        + part(1, part(1, api_version.encode()) + part(2, kind.encode()))
        + part(2, message)
        + further
    )


@pytest.mark.parametrize(("text", "document"), SENT.values(), ids=SENT.keys())
def test_bodies_of_kubectl_are_decoded(text: str, document: dict[str, Any]) -> None:
    """The result is the object that it would have sent as JSON."""
    assert document == decode_protobuf(base64.b64decode(text))


def test_metadata_is_decoded_completely() -> None:
    """Times, owners, zeros that are values, managed fields."""
    time = part(1, 1_800_000_000)
    owner = (
        part(1, b"Thing")
        + part(3, b"n")
        + part(4, b"u")
        + part(5, b"test.dev/v1")
        + part(6, 0)
        + part(7, 1)
    )
    entry = (
        part(1, b"m")
        + part(2, b"Update")
        + part(3, b"v1")
        + part(4, time)
        + part(6, b"FieldsV1")
        + part(7, part(1, b'{"f:data":{}}'))
    )
    metadata = (
        part(1, b"n")
        + part(7, 3)
        + part(8, time)
        + part(10, 0)
        + part(13, owner)
        + part(14, b"f")
        + part(17, entry)
    )
    document = decode_protobuf(body("v1", "ConfigMap", part(1, metadata) + part(4, 0)))
    assert {
        "name": "n",
        "generation": 3,
        "creationTimestamp": "2027-01-15T08:00:00Z",
        "deletionGracePeriodSeconds": 0,
        "ownerReferences": [
            {
                "kind": "Thing",
                "name": "n",
                "uid": "u",
                "apiVersion": "test.dev/v1",
                "controller": False,
                "blockOwnerDeletion": True,
            }
        ],
        "finalizers": ["f"],
        "managedFields": [
            {
                "manager": "m",
                "operation": "Update",
                "apiVersion": "v1",
                "time": "2027-01-15T08:00:00Z",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:data": {}},
            }
        ],
    } == document["metadata"]
    assert document["immutable"] is False


def test_delete_options_are_decoded() -> None:
    """Typed clients send them as protobuf too."""
    options = part(1, 0) + part(2, part(1, b"u")) + part(4, b"Foreground") + part(5, b"All")
    assert {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u"},
        "propagationPolicy": "Foreground",
        "dryRun": ["All"],
    } == decode_protobuf(body("v1", "DeleteOptions", options))


def test_an_event_keeps_its_microseconds() -> None:
    """MicroTime has six digits; negative numbers are decoded as such."""
    document = decode_protobuf(
        body(
            "events.k8s.io/v1",
            "Event",
            part(2, part(1, 1_800_000_000) + part(2, 5_000)) + part(15, -2),
        )
    )
    assert ("2027-01-15T08:00:00.000005Z", -2) == (
        document["eventTime"],
        document["deprecatedCount"],
    )


def test_unknown_fields_are_ignored() -> None:
    """A newer client may send more fields."""
    further = (
        part(99, b"x")
        + part(98, 7)
        + number(97 << 3 | 1)
        + bytes(8)
        + number(96 << 3 | 5)
        + bytes(4)
    )
    assert {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}} == decode_protobuf(
        body("v1", "Namespace", part(1, part(1, b"n")) + further)
    )


@pytest.mark.parametrize(
    ("api_version", "kind", "further"),
    [
        ("v1", "Pod", b""),
        ("apps/v1", "Deployment", b""),
        ("", "", b""),
        ("v1", "Namespace", part(3, b"gzip")),
    ],
)
def test_unknown_kinds_are_rejected(api_version: str, kind: str, further: bytes) -> None:
    """415 with the media types that are accepted."""
    with pytest.raises(StatusError) as caught:
        decode_protobuf(body(api_version, kind, b"", further))
    assert (415, True) == (caught.value.code, "application/json" in str(caught.value))


BROKEN = [
    b"",
    b"{}",
    b"k8s\0\xff",
    b"k8s\0" + b"\xff" * 20,
    b"k8s\0" + number(1 << 3 | 2) + number(5) + b"x",
    b"k8s\0" + number(1 << 3 | 2) + number(1 << 62),
    b"k8s\0" + number(1 << 3 | 3),
    body("v1", "Namespace", number(1 << 3 | 1) + b"x"),
    body("v1", "Namespace", part(1, 5)),
    body("v1", "Namespace", part(1, part(1, b"\xff"))),
    body("v1", "Namespace", part(1, part(7, b"x"))),
    body("v1", "Namespace", part(1, part(8, part(1, 1 << 62)))),
    body("v1", "ConfigMap", part(2, part(1, b"\xff"))),
    body("v1", "ConfigMap", part(2, 5)),
    body("v1", "Namespace", part(1, part(17, part(7, part(1, b"{"))))),
    body("v1", "Namespace", part(1, part(14, b"f") * 30_000)),
    struct.pack("<I", 5),
]


@pytest.mark.parametrize("data", BROKEN)
def test_malformed_bodies_are_rejected(data: bytes) -> None:
    """Lengths past the end, endless numbers, wrong types, invalid text and too many values."""
    with pytest.raises(InvalidObject):
        decode_protobuf(data)
