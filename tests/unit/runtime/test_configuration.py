"""What is shown of settings."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.runtime.configuration import configuration, shown
from headrace.runtime.settings import LogFormat, LogSettings, Settings


def test_each_setting_is_shown_by_its_first_variable() -> None:
    """As JSON has it."""
    found = configuration((LogSettings(format=LogFormat.JSON),))
    assert {"HEADRACE_LOG_FORMAT": "json", "HEADRACE_LOG_LEVEL": "info"} == found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Path("/run/secrets/password"), "/run/secrets/password"),
        ("https://example.com/a?b=c", "https://example.com/a?b=c"),
        ("https://me:secret@example.com:8443/a", "https://me:REDACTED@example.com:8443/a"),
        ("nats://a:b@one:4222, nats://two:4222", "nats://a:REDACTED@one:4222, nats://two:4222"),
        ("nats://:b@one:4222", "nats://:REDACTED@one:4222"),
        ("127.0.0.1:9092,[::1]:9092", "127.0.0.1:9092,[::1]:9092"),
        ("http://[half", "http://[half"),
    ],
)
def test_a_password_in_a_url_is_left_out(value: object, text: str) -> None:
    """Everything else is as it was set."""
    assert text == shown(value)


def test_a_value_of_another_type_is_a_defect() -> None:
    """It would be shown without a thought for what is in it."""

    @dataclass(frozen=True)
    class Nested(Settings):
        env_prefix = "X_"
        value: object = ()

    with pytest.raises(TypeError, match="tuple"):
        configuration((Nested(),))
