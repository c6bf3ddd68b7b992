"""What stands before the application: hosts that are not ours."""

import pytest

from headrace_controller.api.guards import is_loopback


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:8001", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("[::1]:8001", True),
        ("", False),
        ("evil.example", False),
        ("127.0.0.1.evil.example:8001", False),
        ("localhost.evil.example", False),
        ("0.0.0.0:8001", False),
    ],
)
def test_only_loopback_names_are_ours(host: str, ours: bool) -> None:
    """With a port or without; a name that only begins like ours is not."""
    assert ours is is_loopback(host)
