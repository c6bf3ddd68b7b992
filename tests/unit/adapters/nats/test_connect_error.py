"""What an error of the connection says."""

import ssl
from pathlib import Path

import pytest

from headrace.adapters.nats.connect_error import connect_error_text
from headrace.adapters.nats.options import NatsOptions

PLAIN = NatsOptions(servers=("nats://nats:4222",))
OWN_CA = NatsOptions(servers=("nats://nats:4222",), ca_file=Path("ca.pem"))


def verification(code: int) -> ssl.SSLCertVerificationError:
    """A failed verification of the server's certificate."""
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_code = code
    return error


@pytest.mark.parametrize(
    ("error", "options", "said"),
    [
        (verification(62), OWN_CA, "is not for the host in HEADRACE_NATS_SERVERS"),
        (verification(64), PLAIN, "is not for the host in HEADRACE_NATS_SERVERS"),
        (verification(20), OWN_CA, "HEADRACE_NATS_CA_FILE must have the CA"),
        (verification(20), PLAIN, "set HEADRACE_NATS_CA_FILE"),
        (TimeoutError(), PLAIN, "TimeoutError"),
    ],
)
def test_the_setting_is_named(error: Exception, options: NatsOptions, said: str) -> None:
    assert said in connect_error_text(error, options)


def test_an_error_that_no_setting_causes_is_shown_as_it_is() -> None:
    assert "no route to host" == connect_error_text(OSError("no route to host"), OWN_CA)
