"""A port in use leads to one clear sentence."""

import os
from pathlib import Path

import pytest

from headrace.runtime.sockets import (
    PortInUse,
    PortUnavailable,
    RequiredPort,
    check_free,
    listen,
    port_of,
    port_owner,
)


def test_a_port_in_use_names_the_port_the_holder_and_the_way_out() -> None:
    """The message contains everything that is needed to fix it."""
    with listen("127.0.0.1", 0, purpose="the ingress", option="--port") as taken:
        port = port_of(taken)
        with pytest.raises(PortInUse) as raised:
            listen("127.0.0.1", port, purpose="the ingress", option="--port")
    message = str(raised.value)
    assert f"the ingress cannot listen on 127.0.0.1:{port}: the port is in use by" in message
    assert f"process {os.getpid()}" in message
    assert "choose another port with --port" in message


def test_a_descriptor_that_is_closed_meanwhile_hides_no_holder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Processes open and close files while they are looked through."""
    readlink, closed = Path.readlink, set[Path]()

    def closing(path: Path) -> Path:
        if path.parent not in closed:
            closed.add(path.parent)
            raise FileNotFoundError(path)
        return readlink(path)

    with listen("127.0.0.1", 0, purpose="x", option="--port") as taken:
        monkeypatch.setattr(Path, "readlink", closing)
        assert f"process {os.getpid()}" in str(port_owner(port_of(taken)))


def test_a_free_port_has_no_holder() -> None:
    """After the socket is closed, nobody listens."""
    with listen("127.0.0.1", 0, purpose="x", option="--port") as taken:
        port = port_of(taken)
    assert port_owner(port) is None


def test_an_address_that_is_not_ours_is_refused_with_the_reason() -> None:
    """Nobody uses 192.0.2.0/24 (RFC 5737)."""
    with pytest.raises(PortUnavailable, match="Cannot assign requested address"):
        listen("192.0.2.1", 0, purpose="x", option="--host")


def test_shared_ports_can_be_opened_twice() -> None:
    """Worker processes of one service accept on the same port."""
    with listen("127.0.0.1", 0, purpose="x", option="--port", shared=True) as first:
        listen("127.0.0.1", port_of(first), purpose="x", option="--port", shared=True).close()


def test_all_ports_in_use_are_named_at_once() -> None:
    """Reporting one error after the other would take several starts. Free ports are still free
    afterwards.
    """
    with (
        listen("127.0.0.1", 0, purpose="x", option="") as first,
        listen("127.0.0.1", 0, purpose="x", option="") as second,
    ):
        taken = [
            RequiredPort("127.0.0.1", port_of(first), "the ingress", "--port"),
            RequiredPort("127.0.0.1", 0, "the viewer", "--viewer-port"),
            RequiredPort("127.0.0.1", port_of(second), "the API", "--controller-port"),
        ]
        with pytest.raises(PortInUse) as raised:
            check_free(taken)
    assert ["2 ports are unavailable:", "  the ingress", "  the API"] == [
        each.partition(" cannot listen")[0] for each in str(raised.value).splitlines()
    ]
    check_free(taken)


def test_two_parts_cannot_have_one_port() -> None:
    """The error for the second one names this process as the owner."""
    with listen("127.0.0.1", 0, purpose="x", option="") as taken:
        port = port_of(taken)
    with pytest.raises(PortInUse, match=r"the API cannot listen on .* this very process"):
        check_free(
            [
                RequiredPort("127.0.0.1", port, "the ingress", "--port"),
                RequiredPort("127.0.0.1", port, "the API", "--controller-port"),
            ]
        )
