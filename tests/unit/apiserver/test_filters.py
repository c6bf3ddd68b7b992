"""Filters in front of the application: other hosts, web pages of other sites, impersonation,
caching.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_controller.settings import ControllerSettings
from tests.unit.apiserver.running_api import ApiUnderTest, running_api

TOKEN = "token-of-the-test-0123456789"
SECRETS = "/api/v1/namespaces/default/secrets"


@pytest.fixture(scope="module")
def api() -> Iterator[ApiUnderTest]:
    """On a loopback address, where only these filters protect it."""
    with running_api() as running:
        yield running


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost"},
        {"Host": "LOCALHOST:1"},
        {"Host": "127.0.0.2:8001"},
        {"Host": "[::1]:8001"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_programs_and_pages_of_this_machine_are_served(
    api: ApiUnderTest, headers: dict[str, str]
) -> None:
    """With every loopback name and address."""
    assert 200 == api.call("GET", SECRETS, headers=headers)[0]


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Host": "evil.example"}, "evil.example"),
        ({"Host": "127.0.0.1.evil.example:8001"}, "127.0.0.1.evil.example"),
        ({"Host": "localhost.evil.example"}, "localhost.evil.example"),
        ({"Host": "0.0.0.0:8001"}, "0.0.0.0"),
        ({"Origin": "https://evil.example"}, "Origin"),
        ({"Origin": "null"}, "Origin"),
        ({"Sec-Fetch-Site": "cross-site"}, "cross-site"),
    ],
)
def test_web_pages_of_other_sites_are_rejected(
    api: ApiUnderTest, headers: dict[str, str], message: str
) -> None:
    """Also for GET: 403 with a Status that states the reason and the next step."""
    for method in ("GET", "POST"):
        code, status = api.call(method, SECRETS, {} if method == "POST" else None, headers=headers)
        assert (403, "Forbidden") == (code, status["reason"])
        assert message in status["message"]
        assert "HEADRACE_CONTROLLER_API_HOSTS" in status["message"]


def test_every_origin_header_is_checked(api: ApiUnderTest) -> None:
    """Not only the first."""
    text = (
        f"GET {SECRETS} HTTP/1.0\r\nOrigin: http://localhost\r\nOrigin: http://evil.example\r\n\r\n"
    )
    with socket.create_connection(
        ("127.0.0.1", int(api.url.rpartition(":")[2])), timeout=5
    ) as connection:
        connection.sendall(text.encode())
        assert b"403" in connection.recv(20)


def test_names_can_be_allowed(tmp_path: Path) -> None:
    """Also on other addresses, where otherwise any Host is accepted."""
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    authorization = {"Authorization": f"Bearer {TOKEN}"}
    with running_api(
        ControllerSettings(
            host="0.0.0.0", port=0, token_file=tokens, api_hosts="controller,api.example."
        )
    ) as api:
        api.url = api.url.replace("0.0.0.0", "127.0.0.1")
        for host, code in (
            ("controller:8001", 200),
            ("API.example", 200),
            ("127.0.0.1", 200),
            ("evil.example", 403),
            ("10.1.2.3", 403),
        ):
            assert code == api.call("GET", SECRETS, headers={"Host": host, **authorization})[0], (
                host
            )
    with running_api(ControllerSettings(host="0.0.0.0", port=0, token_file=tokens)) as api:
        api.url = api.url.replace("0.0.0.0", "127.0.0.1")
        assert 200 == api.call("GET", SECRETS, headers={"Host": "evil.example", **authorization})[0]


@pytest.mark.parametrize(
    ("header", "resource"),
    [
        ("Impersonate-User", "users"),
        ("Impersonate-Group", "groups"),
        ("Impersonate-Uid", "uids"),
        ("Impersonate-Extra-Scopes", "userextras"),
    ],
)
def test_impersonation_is_rejected(api: ApiUnderTest, header: str, resource: str) -> None:
    """`kubectl --as` gets an error instead of a response for the wrong user."""
    for path in ("/api", SECRETS):
        code, status = api.call("GET", path, headers={header: "ada"})
        assert (403, "Forbidden", resource) == (code, status["reason"], status["details"]["kind"])
        assert f'User "headrace" cannot impersonate resource "{resource}"' in status["message"]


def test_responses_are_not_cached(api: ApiUnderTest) -> None:
    """`Cache-Control: no-cache, private` on all of them, as in the Kubernetes API server."""
    for path in (
        SECRETS,
        "/api",
        "/version",
        "/livez",
        "/nothing",
        f"{SECRETS}?watch=1&timeoutSeconds=1",
    ):
        assert "no-cache, private" == api.request("GET", path).headers["cache-control"], path
    assert (
        "no-cache, private"
        == api.request("GET", SECRETS, headers={"Host": "evil.example"}).headers["cache-control"]
    )
