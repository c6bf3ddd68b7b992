"""Signatures: the examples of the providers' own documents, and what is refused."""

import base64
import hmac
from hashlib import sha256

import pytest

from headrace_sources.adapters.webhook_signatures import (
    InvalidSecret,
    Scheme,
    SignatureRefused,
    Signed,
    check_secret,
    verify,
)

NOW = 1_700_000_000.0
BODY = b'{"type": "invoice.paid"}'
SECRET = {
    Scheme.BEARER: b"open",
    Scheme.GITHUB: b"sesame",
    Scheme.STRIPE: b"whsec_stripe",
    Scheme.SLACK: b"slack",
    Scheme.STANDARD: b"whsec_" + base64.b64encode(b"standard"),
}
TIMED = (Scheme.STRIPE, Scheme.SLACK, Scheme.STANDARD)


def signed(scheme: Scheme, secret: bytes, body: bytes = BODY, at: float = NOW) -> dict[str, str]:
    """The headers that a provider sends."""
    key, time = check_secret(scheme, secret), f"{at:.0f}"

    def digest(content: bytes) -> bytes:
        return hmac.new(key, content, sha256).digest()

    match scheme:
        case Scheme.BEARER:
            return {"authorization": f"Bearer {secret.decode()}"}
        case Scheme.GITHUB:
            return {"x-hub-signature-256": f"sha256={digest(body).hex()}"}
        case Scheme.STRIPE:
            found = digest(time.encode() + b"." + body).hex()
            return {"stripe-signature": f"t={time},v1={'0' * 64},v1={found},v1={'1' * 64},v0=abc"}
        case Scheme.SLACK:
            found = digest(b"v0:" + time.encode() + b":" + body).hex()
            return {"x-slack-request-timestamp": time, "x-slack-signature": f"v0={found}"}
        case Scheme.STANDARD:
            found = base64.b64encode(digest(f"msg_1.{time}.".encode() + body)).decode()
            return {
                "webhook-id": "msg_1",
                "webhook-timestamp": time,
                "webhook-signature": f"v1a,AAAA v1,AAAA v1,{found} v1,AAAA",
            }
    return {}


def check(
    scheme: Scheme, headers: dict[str, str], body: bytes = BODY, *, now: float = NOW
) -> Signed:
    """Verify with the right secret and a tolerance of 300 s."""
    key = check_secret(scheme, SECRET[scheme])
    return verify(scheme, key, headers, body, now=now, tolerance_seconds=300)


@pytest.mark.parametrize("scheme", SECRET)
def test_a_signature_is_valid(scheme: Scheme) -> None:
    """Also among several, as while a secret is replaced."""
    assert check(scheme, signed(scheme, SECRET[scheme])).replay_key != b"" or scheme not in TIMED


@pytest.mark.parametrize("scheme", SECRET)
def test_one_with_another_secret_is_refused(scheme: Scheme) -> None:
    """And the message has no secret."""
    other = b"whsec_" + base64.b64encode(b"other") if scheme is Scheme.STANDARD else b"other"
    with pytest.raises(SignatureRefused) as caught:
        check(scheme, signed(scheme, other))
    assert SECRET[scheme].decode() not in str(caught.value)


@pytest.mark.parametrize("scheme", [each for each in SECRET if each is not Scheme.BEARER])
def test_one_of_another_body_is_refused(scheme: Scheme) -> None:
    """One byte is enough."""
    with pytest.raises(SignatureRefused):
        check(scheme, signed(scheme, SECRET[scheme]), BODY + b" ")


@pytest.mark.parametrize("scheme", SECRET)
def test_a_request_without_headers_is_refused(scheme: Scheme) -> None:
    """The message names the one that is missing, and so it does when each of them is."""
    headers = signed(scheme, SECRET[scheme])
    for name in headers:
        with pytest.raises(SignatureRefused, match=f"no header {name}"):
            check(scheme, {each: value for each, value in headers.items() if each != name})


@pytest.mark.parametrize("scheme", TIMED)
def test_an_old_signature_is_refused(scheme: Scheme) -> None:
    """And one from the future."""
    headers = signed(scheme, SECRET[scheme])
    for seconds in (-300, 0, 300):
        check(scheme, headers, now=NOW + seconds)
    for seconds in (-301, 301):
        with pytest.raises(SignatureRefused, match="more than 300 s ago"):
            check(scheme, headers, now=NOW + seconds)


@pytest.mark.parametrize("scheme", TIMED)
def test_requests_have_the_same_key_only_if_they_are_copies(scheme: Scheme) -> None:
    """A provider signs what it sends again with another time."""
    first = check(scheme, signed(scheme, SECRET[scheme])).replay_key
    assert first == check(scheme, signed(scheme, SECRET[scheme])).replay_key
    assert first != check(scheme, signed(scheme, SECRET[scheme], at=NOW + 1)).replay_key


@pytest.mark.parametrize("scheme", TIMED)
@pytest.mark.parametrize("time", ["", "soon", "-1", "1e9", "١٧٠٠", "9" * 400])
def test_a_time_that_is_none_is_refused(scheme: Scheme, time: str) -> None:
    """Whatever it is."""
    headers = {
        name: value.replace(f"{NOW:.0f}", time)
        for name, value in signed(scheme, SECRET[scheme]).items()
    }
    with pytest.raises(SignatureRefused):
        check(scheme, headers)


@pytest.mark.parametrize(
    "value",
    ["", "v1", "sha256=", "sha256=zz", "sha1=00", "v0=é", "v1,é v1,", "t=1,v1=" * 40, "Basic"],
)
@pytest.mark.parametrize("scheme", SECRET)
def test_a_malformed_header_is_refused(scheme: Scheme, value: str) -> None:
    """None of them is another error."""
    for name in (headers := signed(scheme, SECRET[scheme])):
        with pytest.raises(SignatureRefused):
            check(scheme, {**headers, name: value})


def test_the_example_of_github() -> None:
    """From "Validating webhook deliveries" of its documentation."""
    headers = {
        "x-hub-signature-256": "sha256="
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    }
    key = check_secret(Scheme.GITHUB, b"It's a Secret to Everybody")
    verify(Scheme.GITHUB, key, headers, b"Hello, World!", now=0, tolerance_seconds=1)


def test_the_example_of_slack() -> None:
    """From "Verifying requests from Slack" of its documentation."""
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
        b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
        b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
        b"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    key = check_secret(Scheme.SLACK, b"8f742231b10e8888abcd99yyyzzz85a5")
    verify(Scheme.SLACK, key, headers, body, now=1531420618, tolerance_seconds=1)


def test_the_example_of_standard_webhooks() -> None:
    """From the specification, and with the names of Svix."""
    body = b'{"test": 2432232314}'
    key = check_secret(Scheme.STANDARD, b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    for prefix in ("webhook", "svix"):
        headers = {
            f"{prefix}-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            f"{prefix}-timestamp": "1614265330",
            f"{prefix}-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        }
        verify(Scheme.STANDARD, key, headers, body, now=1614265330, tolerance_seconds=1)


def test_without_a_scheme_anything_is_accepted() -> None:
    """And nothing is remembered."""
    found = verify(Scheme.NONE, b"", {}, b"", now=0, tolerance_seconds=1)
    assert found.replay_key == b""


@pytest.mark.parametrize(
    ("scheme", "secret"),
    [
        (Scheme.BEARER, b""),
        (Scheme.SLACK, b" \n"),
        (Scheme.STANDARD, b"whsec_!"),
        (Scheme.STANDARD, b"\xff"),
    ],
)
def test_a_secret_that_cannot_be_one(scheme: Scheme, secret: bytes) -> None:
    """It is named before any request arrives."""
    with pytest.raises(InvalidSecret):
        check_secret(scheme, secret)


def test_a_final_line_break_is_no_part_of_a_secret() -> None:
    """It is easily stored with it."""
    assert b"sesame" == check_secret(Scheme.GITHUB, b"sesame\n")
