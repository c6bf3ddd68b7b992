"""Strategic merge patches of core kinds: what kubectl sends, and what must stay unchanged."""

from typing import Any

import pytest

from headrace.resources.resource import ResourceKind
from headrace_apiserver.patching.strategic import has_directives, strategically_merged
from headrace_apiserver.statuses import StatusError

SERVICE = ResourceKind(
    group="", version="v1", kind="Service", plural="services", singular="service"
)
ACCOUNT = ResourceKind(
    group="",
    version="v1",
    kind="ServiceAccount",
    plural="serviceaccounts",
    singular="serviceaccount",
)
MAP = ResourceKind(
    group="", version="v1", kind="ConfigMap", plural="configmaps", singular="configmap"
)

HTTP, HTTPS = (
    {"port": 80, "protocol": "TCP", "name": "http"},
    {"port": 443, "protocol": "TCP", "name": "https"},
)
DNS_TCP, DNS_UDP = (
    {"port": 53, "protocol": "TCP", "name": "tcp"},
    {"port": 53, "protocol": "UDP", "name": "udp"},
)


def _ports(before: list[Any], patch: list[Any], **directives: Any) -> Any:
    return strategically_merged(
        SERVICE, {"spec": {"ports": before}}, {"spec": {"ports": patch, **directives}}
    )["spec"]["ports"]


def test_what_kubectl_apply_sends_for_one_port_of_two() -> None:
    """One port is changed, one is deleted, one that the patch does not mention stays; the order is
    the one sent.
    """
    patch = [
        {"port": 80, "targetPort": 8080},
        {"port": 443, "$patch": "delete"},
        {"port": 9090, "name": "metrics"},
    ]
    order = [{"port": 80}, {"port": 9090}]
    found = _ports([HTTP, HTTPS, DNS_UDP], patch, **{"$setElementOrder/ports": order})
    assert [{**HTTP, "targetPort": 8080}, DNS_UDP, {"port": 9090, "name": "metrics"}] == found


def test_one_number_may_be_two_ports() -> None:
    """A protocol in the patch distinguishes them; without one the first is changed."""
    both = [DNS_TCP, DNS_UDP]
    assert [DNS_TCP, {**DNS_UDP, "name": "x"}] == _ports(
        both, [{"port": 53, "protocol": "UDP", "name": "x"}]
    )
    assert [{**DNS_TCP, "name": "x"}, DNS_UDP] == _ports(both, [{"port": 53, "name": "x"}])
    assert [DNS_TCP] == _ports(both, [{"port": 53, "protocol": "UDP", "$patch": "delete"}])
    assert [] == _ports(both, [{"port": 53, "$patch": "delete"}])
    assert both == _ports([DNS_TCP], both)


def test_a_list_can_be_replaced_whole() -> None:
    """The element with the directive is not stored."""
    assert [DNS_UDP] == _ports([HTTP, HTTPS], [{"$patch": "replace"}, DNS_UDP])


def test_elements_that_the_order_does_not_name_keep_their_place() -> None:
    """Another writer's elements are not moved to the end by a client that has not seen them."""
    found = _ports(
        [HTTP, DNS_TCP, HTTPS],
        [{"port": 443, "name": "tls"}],
        **{"$setElementOrder/ports": [{"port": 80}, {"port": 443}]},
    )
    assert [HTTP, DNS_TCP, {**HTTPS, "name": "tls"}] == found


def _finalizers(before: list[str] | None, **patch: Any) -> Any:
    target = {"metadata": {} if before is None else {"finalizers": before}}
    return strategically_merged(MAP, target, {"metadata": patch})["metadata"].get("finalizers")


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        (["a"], {"finalizers": ["b"]}, ["a", "b"]),
        (["a"], {"finalizers": ["b", "a"]}, ["a", "b"]),
        (None, {"finalizers": ["b"]}, ["b"]),
        (["a"], {"finalizers": None}, None),
        (["a", "b"], {"$deleteFromPrimitiveList/finalizers": ["a"]}, ["b"]),
        (["a"], {"finalizers": ["b"], "$setElementOrder/finalizers": ["b", "a"]}, ["b", "a"]),
        (
            ["a", "c"],
            {
                "$deleteFromPrimitiveList/finalizers": ["a"],
                "$setElementOrder/finalizers": ["b"],
                "finalizers": ["b"],
            },
            ["c", "b"],
        ),
    ],
)
def test_finalizers_are_a_set(
    before: list[str] | None, patch: dict[str, Any], after: list[str] | None
) -> None:
    """Adding a finalizer does not remove another writer's."""
    assert after == _finalizers(before, **patch)


def test_owners_and_secrets_have_keys() -> None:
    """An owner by its uid, a ServiceAccount's secrets by name."""
    target = {
        "metadata": {"ownerReferences": [{"uid": "1", "name": "a"}]},
        "secrets": [{"name": "s"}],
        "imagePullSecrets": [{"name": "p"}],
    }
    patch = {
        "metadata": {
            "ownerReferences": [{"uid": "2", "name": "b"}, {"uid": "1", "controller": True}]
        },
        "secrets": [{"name": "t"}],
        "imagePullSecrets": [{"$patch": "delete", "name": "p"}, {"name": "q"}],
    }
    found = strategically_merged(ACCOUNT, target, patch)
    assert [{"uid": "1", "name": "a", "controller": True}, {"uid": "2", "name": "b"}] == found[
        "metadata"
    ]["ownerReferences"]
    assert [{"name": "s"}, {"name": "t"}] == found["secrets"]
    assert [{"name": "q"}] == found["imagePullSecrets"]


@pytest.mark.parametrize(
    ("patch", "after"),
    [
        ({"data": {"b": "3", "c": None}}, {"data": {"a": "1", "b": "3"}}),
        ({"data": {"$patch": "replace", "c": "3"}}, {"data": {"c": "3"}}),
        ({"data": {"$patch": "delete"}}, {"data": {}}),
        ({"data": {"$retainKeys": ["b", "c"], "c": "3"}}, {"data": {"b": "2", "c": "3"}}),
        ({"data": None}, {}),
        (
            {"other": {"$patch": "replace", "x": {"y": None, "z": 1}}},
            {"data": {"a": "1", "b": "2"}, "other": {"x": {"z": 1}}},
        ),
        (
            {"other": [{"$patch": "delete", "x": 1}, 2]},
            {"data": {"a": "1", "b": "2"}, "other": [2]},
        ),
        ({"data": {"$x": "kept"}}, {"data": {"a": "1", "b": "2", "$x": "kept"}}),
    ],
)
def test_directives_are_followed_and_never_stored(
    patch: dict[str, Any], after: dict[str, Any]
) -> None:
    """In objects: replace, delete, retain; without one it is a merge patch. A name that only looks
    like a directive is a field.
    """
    target = {"data": {"a": "1", "b": "2"}}
    assert after == strategically_merged(MAP, target, patch)
    assert {"data": {"a": "1", "b": "2"}} == target


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"$patch": "explode"}, "Unsupported value"),
        ({"spec": {"ports": [{"name": "http"}]}}, "declared merge key: port"),
        ({"spec": {"ports": [80]}}, "declared merge key: port"),
        ({"spec": {"$retainKeys": ["a"], "b": 1}}, "must name b"),
        ({"spec": {"$retainKeys": "a"}}, "list of field names"),
        ({"spec": {"$setElementOrder/ports": 1}}, "must be a list"),
        ({"metadata": {"finalizers": [{}]}}, "list of strings"),
    ],
)
def test_invalid_directives_are_refused(patch: dict[str, Any], message: str) -> None:
    """400, with the path."""
    with pytest.raises(StatusError, match=message) as refused:
        strategically_merged(SERVICE, {}, patch)
    assert 400 == refused.value.code


def test_a_patch_is_no_deeper_than_an_object() -> None:
    """Depth is bounded, in objects and in lists."""
    patch: dict[str, Any] = {}
    for _ in range(200):
        patch = {"a": [patch]}
    with pytest.raises(StatusError, match="deeper"):
        strategically_merged(MAP, {}, patch)


def test_directives_are_found_wherever_they_are() -> None:
    """Also in lists."""
    assert has_directives({"spec": {"list": [1, {"$patch": "delete"}]}})
    assert has_directives({"metadata": {"$setElementOrder/finalizers": []}})
    assert not has_directives({"spec": {"$schema": "x", "list": [{"a": "$patch"}]}})
