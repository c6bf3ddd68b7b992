"""How a request target is mapped to a path: it is decoded once, and never becomes the path of
another addressable.
"""

import time

import pytest

from headrace.domain.routing import Addressable, RoutingTable, route_key
from headrace.runtime.metrics import Metrics
from headrace_ingress.metrics import IngressMetrics
from headrace_ingress.route_cache import RouteCache, decode_host, decode_path


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/ns/name", "/ns/name"),
        (b"/ns/name/", "/ns/name"),
        (b"/ns/name?a=/b", "/ns/name"),
        (b"/ns/name#x", "/ns/name"),
        (b"/n%73/name", "/ns/name"),
        (b"/ns/n%C3%A4me", "/ns/näme"),
        (b"http://host:80/ns/name", "/ns/name"),
        (b"https://host", "/"),
        (b"/", "/"),
        (b"//", "/"),
        (b"//ns/name", "//ns/name"),
        (b"/ns%2Fname", None),
        (b"/ns/..%2fname", None),
        (b"/ns/%2e%2e/name", None),
        (b"/ns/./name", None),
        (b"/ns/name%00", None),
        (b"/ns/na%0d%0ame", None),
        (b"/ns/%C0%AF", None),
        (b"/ns/%ff", None),
        (b"*", None),
        (b"host:443", None),
        (b"ftp://host/ns/name", None),
    ],
)
def test_a_target_is_one_path_or_none(target: bytes, path: str | None) -> None:
    """Query, fragment and one slash at the end are ignored. Anything ambiguous is not a path."""
    assert path == decode_path(target)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (b"A.Example:8080", "a.example"),
        (b"a.example.", "a.example"),
        (b"[::1]:80", "[::1]:80"),
        (b"\xff", "ÿ"),
    ],
)
def test_a_host_is_compared_without_port_and_case(field: bytes, name: str) -> None:
    """Port, case and the trailing dot of a Host are ignored."""
    assert name == decode_host(field)


def _route_cache(*names: tuple[str, str]) -> RouteCache:
    table = RoutingTable()
    for namespace, name in names:
        route = Addressable(
            uid=f"{namespace}-{name}",
            generation=1,
            epoch=1,
            namespace=namespace,
            name=name,
            topic="t",
            paths=(f"/{namespace}/{name}",),
        )
        table.apply(route_key(route), route)
    return RouteCache(table, IngressMetrics(Metrics(process=False)), batch_bytes_max=1_048_576)


def test_the_path_of_a_channel_is_suggested_for_its_name() -> None:
    """It has the kind before the name, as `status.address.url` shows."""
    said = _route_cache(("shop", "kafkachannels/orders"), ("shop", "order")).explain_unknown(
        b"/shop/orders"
    )
    assert said.endswith("did you mean /shop/kafkachannels/orders?")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (
            b"/shop/ordres?x=1",
            "no Broker or Channel is served at this path: /shop/ordres; did you mean /shop/orders?",
        ),
        (b"/shop/invoices", "served at this path: /shop/invoices; is it created and Ready?"),
        (b"/shopp/orders", "served at this path: /shopp/orders; is it created and Ready?"),
        (b"/orders", "send events to /<namespace>/<name>"),
        (b"/", "send events to /<namespace>/<name>"),
        (b"/shop/a/b", "send events to /<namespace>/<name>"),
        (b"/shop%2Forders", "is not well-formed"),
        (b"/shop/" + b"x" * 300, "x…; is it created"),
    ],
)
def test_an_unknown_path_is_explained_with_the_path_of_the_request(
    target: bytes, words: str
) -> None:
    """It contains the path and perhaps a similar path of the same namespace, but never a name of
    another namespace.
    """
    said = _route_cache(
        ("shop", "orders"), ("secret", "orders"), ("shop", "payments")
    ).explain_unknown(target)
    assert words in said
    assert "secret" not in said


def test_what_was_meant_is_not_looked_for_among_too_much() -> None:
    """Two hundred long paths of the same letters would take a quarter of a second. Among many
    paths, the one of a similar length is found.
    """
    alike = [("n" * 63, "abab" * 15 + str(number)) for number in range(200)]
    route_cache = _route_cache(("n" * 63, "orders"), *alike)
    begun = time.thread_time()
    route_cache.explain_unknown(b"/" + b"n" * 63 + b"/" + b"aabb" * 15)
    assert 0.05 > time.thread_time() - begun
    assert "/orders?" in route_cache.explain_unknown(b"/" + b"n" * 63 + b"/ordres")
