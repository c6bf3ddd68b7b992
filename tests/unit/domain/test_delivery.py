"""The decision after an attempt, delivery blocks of manifests, and the extensions of a
dead letter.
"""

from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from headrace.domain.dead_letter import KNE_HEADERS_MAX, error_extensions
from headrace.domain.delivery import (
    BackoffPolicy,
    DeadLetter,
    DeadLetterReason,
    Decision,
    DeliveryPolicy,
    Done,
    Failure,
    Outcome,
    Retry,
    backoff_seconds,
    decide,
)
from headrace.resources.delivery_spec import DeliverySpec, merge, overlay, parse

DOCUMENT = Path(__file__).parents[3] / "docs" / "delivery.md"
NOW = 1_700_000_000.0
POLICY = DeliveryPolicy()


def decided(
    outcome: Outcome, *, attempt: int = 1, policy: DeliveryPolicy = POLICY, jitter: float = 0.0
) -> Decision:
    """Call `decide` with the time NOW."""
    return decide(policy, attempt, outcome, NOW, jitter)


def wait_of(
    outcome: Outcome, *, attempt: int = 1, policy: DeliveryPolicy = POLICY, jitter: float = 0.0
) -> float:
    """Return the wait of a decision that must be a retry."""
    decision = decided(outcome, attempt=attempt, policy=policy, jitter=jitter)
    assert isinstance(decision, Retry)
    assert NOW + decision.wait_seconds == decision.at
    return decision.wait_seconds


@pytest.mark.clause("D15")
@pytest.mark.parametrize("status", [200, 201, 203, 204, 226, 299])
def test_2xx_is_done_and_may_carry_a_reply(status: int) -> None:
    """Every 2xx except 202 is delivered, and its body may be a reply event."""
    assert Done(reply=True) == decided(Outcome(status=status))


@pytest.mark.clause("D16")
def test_202_is_done_without_a_reply() -> None:
    """D16: a 202 is never processed as a reply."""
    assert Done(reply=False) == decided(Outcome(status=202))


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 501, 502, 503, 504, 599])
def test_retryable_statuses_are_retried(status: int) -> None:
    """D6: 404, 408, 409, 429 and 5xx are retried."""
    assert Retry(NOW + 0.2, 0.2, 2) == decided(Outcome(status=status))


@pytest.mark.parametrize(
    "failure",
    [
        failure
        for failure in Failure
        if failure not in (Failure.REFUSED, Failure.UNSUPPORTED_SCHEME)
    ],
)
def test_no_response_is_retried(failure: Failure) -> None:
    """Every reason for a missing response may be temporary."""
    assert isinstance(decided(Outcome(failure=failure)), Retry)


@pytest.mark.clause("D6", "D7")
@pytest.mark.parametrize(
    "status", [100, 101, 199, 300, 301, 304, 307, 399, 400, 401, 403, 405, 410, 413, 422, 499, 600]
)
def test_other_statuses_are_dead_letters_at_once(status: int) -> None:
    """Another attempt would get the same answer."""
    decision = decided(Outcome(status=status))
    assert isinstance(decision, DeadLetter)
    assert (DeadLetterReason.REJECTED, True) == (
        decision.reason,
        f"status {status}" in decision.detail,
    )


def test_a_forbidden_address_is_a_dead_letter_at_once() -> None:
    """The egress policy does not change between attempts."""
    decision = decided(Outcome(failure=Failure.REFUSED, detail="10.0.0.1"))
    assert isinstance(decision, DeadLetter)
    assert DeadLetterReason.REFUSED is decision.reason


def test_the_last_retry_is_followed_by_a_dead_letter() -> None:
    """`retry: 2` allows three attempts."""
    policy = DeliveryPolicy(retry=2)
    assert isinstance(decided(Outcome(status=500), attempt=2, policy=policy), Retry)
    decision = decided(Outcome(status=500), attempt=3, policy=policy)
    assert (
        DeadLetter(DeadLetterReason.EXHAUSTED, "status 500 at attempt 3, the last of 3") == decision
    )


def test_retry_zero_means_one_attempt() -> None:
    """0 is a valid value and not replaced by the default."""
    assert isinstance(
        decided(Outcome(failure=Failure.TIMEOUT), policy=DeliveryPolicy(retry=0)), DeadLetter
    )


@pytest.mark.clause("F5")
@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (BackoffPolicy.EXPONENTIAL, [0.2, 0.4, 0.8, 1.6, 3.2]),
        (BackoffPolicy.LINEAR, [0.2, 0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_the_backoff_grows(backoff: BackoffPolicy, waits: list[float]) -> None:
    """Exponential: delay times 2^n from n = 0; linear: delay times n from n = 1."""
    policy = DeliveryPolicy(backoff=backoff)
    assert waits == pytest.approx([backoff_seconds(policy, retry) for retry in range(1, 6)])


@pytest.mark.parametrize("backoff", list(BackoffPolicy))
def test_the_backoff_is_capped(backoff: BackoffPolicy) -> None:
    """For any number of retries, the wait stays at the maximum and does not overflow."""
    policy = DeliveryPolicy(backoff=backoff, retry=2**31 - 1)
    assert 600.0 == backoff_seconds(policy, 2**31 - 1)


@pytest.mark.parametrize(("jitter", "wait"), [(-1.0, 0.16), (0.0, 0.2), (1.0, 0.24)])
def test_jitter_spreads_the_backoff_by_a_fifth(jitter: float, wait: float) -> None:
    """From 80 % to 120 % of the backoff."""
    assert wait == pytest.approx(wait_of(Outcome(status=500), jitter=jitter))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("value", [b"7", b"Tue, 14 Nov 2023 22:13:27 GMT"])
def test_retry_after_lengthens_the_wait(status: int, value: bytes) -> None:
    """Seconds or a date, on 429 and 503."""
    decision = decided(Outcome(status=status, headers=[(b"retry-after", value)]))
    assert Retry(NOW + 7, 7.0, 2, retry_after=True) == decision


@pytest.mark.parametrize("status", [404, 408, 409, 500, 502, 504])
def test_retry_after_on_another_status_is_ignored(status: int) -> None:
    """Only 429 and 503 define a meaning for it."""
    assert 0.2 == wait_of(Outcome(status=status, headers=[(b"retry-after", b"7")]))


def test_retry_after_never_shortens_the_wait() -> None:
    """The longer of the backoff and `Retry-After` applies."""
    assert 0.8 == wait_of(Outcome(status=503, headers=[(b"retry-after", b"0")]), attempt=3)


def test_retry_after_is_cut_to_its_cap() -> None:
    """A subscriber that asks for a year gets the maximum."""
    assert 600.0 == wait_of(Outcome(status=503, headers=[(b"retry-after", b"31536000")]))


def test_a_cap_of_zero_ignores_retry_after() -> None:
    """`retryAfterMax: PT0S` disables the header."""
    policy = DeliveryPolicy(retry_after_max_seconds=0.0)
    assert 0.2 == wait_of(Outcome(status=503, headers=[(b"retry-after", b"7")]), policy=policy)


@pytest.mark.parametrize(("attempt", "jitter"), [(0, 0.0), (-1, 0.0), (1, 1.1), (1, -1.1)])
def test_impossible_arguments_are_refused(attempt: int, jitter: float) -> None:
    """A caller that counts from zero would make one attempt too many for each event."""
    with pytest.raises(ValueError, match="attempt"):
        decided(Outcome(status=500), attempt=attempt, jitter=jitter)


def test_a_delivery_block_is_read() -> None:
    """Every field is read; durations are in seconds."""
    spec, errors = parse(
        {
            "retry": 3,
            "timeout": "PT5S",
            "backoffPolicy": "linear",
            "backoffDelay": "PT0.5S",
            "backoffMax": "PT1M",
            "retryAfterMax": "PT0S",
            "format": "json",
            "deadLetterSink": {"uri": "http://dls"},
        },
        "spec.delivery",
    )
    expected = DeliverySpec(
        retry=3,
        timeout_seconds=5.0,
        backoff=BackoffPolicy.LINEAR,
        delay_seconds=0.5,
        backoff_max_seconds=60.0,
        retry_after_max_seconds=0.0,
        format="json",
        dead_letter_sink={"uri": "http://dls"},
    )
    assert (expected, []) == (spec, errors)


@pytest.mark.parametrize(
    ("block", "error"),
    [
        ({"retry": -1}, "invalid value: -1: spec.delivery.retry"),
        (
            {"retry": True},
            "invalid value: true: spec.delivery.retry\nexpected a whole number of retries",
        ),
        (
            {"retry": "3"},
            "invalid value: 3: spec.delivery.retry\nexpected a whole number of retries",
        ),
        (
            {"retry": 2**31},
            "invalid value: 2147483648: spec.delivery.retry\nexpected at most 2147483647",
        ),
        (
            {"timeout": "PT0S"},
            "invalid value: PT0S: spec.delivery.timeout\nexpected a duration above zero",
        ),
        (
            {"timeout": "-PT1S"},
            "invalid value: -PT1S: spec.delivery.timeout\nexpected a duration that is not negative",
        ),
        (
            {"timeout": "soon"},
            (
                "invalid value: soon: spec.delivery.timeout\n'soon' is not an ISO-8601 duration"
                " such as PT0.2S, PT10M or P1D"
            ),
        ),
        (
            {"backoffDelay": 5},
            (
                "invalid value: 5: spec.delivery.backoffDelay\nexpected an ISO-8601 duration in"
                " quotes, such as PT0.2S"
            ),
        ),
        (
            {"backoffPolicy": "random"},
            "invalid value: random: spec.delivery.backoffPolicy\nexpected linear or exponential",
        ),
        (
            {"retryAfterMax": "-PT1S"},
            (
                "invalid value: -PT1S: spec.delivery.retryAfterMax\nexpected a duration that is not"
                " negative"
            ),
        ),
        ({"format": "xml"}, "invalid value: xml: spec.delivery.format\nexpected binary or json"),
        (
            {"deadLetterSink": "http://x"},
            (
                "invalid value: http://x: spec.delivery.deadLetterSink\nexpected a destination with"
                " ref, uri or both"
            ),
        ),
        ({"retries": 3}, "must not set the field(s): spec.delivery.retries"),
    ],
)
def test_a_wrong_field_is_named_in_knatives_words(block: dict[str, Any], error: str) -> None:
    """The error has message, path and details. The field stays unset."""
    spec, errors = parse(block, "spec.delivery")
    assert (DeliverySpec(), [error]) == (spec, [str(each) for each in errors])


def test_every_wrong_field_is_reported() -> None:
    """All errors are reported together, and valid fields are kept."""
    spec, errors = parse({"retry": -1, "timeout": "x", "backoffDelay": "PT1S", "format": None}, "d")
    assert (DeliverySpec(delay_seconds=1.0), [("d.retry",), ("d.timeout",)]) == (
        spec,
        [error.paths for error in errors],
    )


def test_a_long_value_is_not_repeated_whole() -> None:
    """The length of an error message must not depend on the manifest."""
    _, errors = parse({"format": "x" * 100_000}, "d")
    assert len(str(errors[0])) < 200


def test_nothing_said_gives_the_defaults() -> None:
    """The defaults of the design: 10 retries, exponential from 0.2 s, at most 10 minutes, 30 s for
    each attempt.
    """
    expected = DeliveryPolicy(
        retry=10,
        timeout_seconds=30.0,
        backoff=BackoffPolicy.EXPONENTIAL,
        delay_seconds=0.2,
        backoff_max_seconds=600.0,
        retry_after_max_seconds=600.0,
    )
    assert expected == merge(None, None) == merge(DeliverySpec(), DeliverySpec())


@pytest.mark.clause("F3")
def test_the_trigger_wins_field_by_field() -> None:
    """A zero in the Trigger overrides the Broker; an absent field does not."""
    trigger = DeliverySpec(retry=0, delay_seconds=0.0)
    broker = DeliverySpec(retry=5, timeout_seconds=7.0, backoff=BackoffPolicy.LINEAR)
    expected = DeliveryPolicy(
        retry=0, delay_seconds=0.0, timeout_seconds=7.0, backoff=BackoffPolicy.LINEAR
    )
    assert expected == merge(trigger, broker)


def test_the_dead_letter_sink_falls_back_to_the_brokers() -> None:
    """The field follows the same rule as the others."""
    sink = {"uri": "http://dls"}
    assert (
        sink == overlay(DeliverySpec(retry=1), DeliverySpec(dead_letter_sink=sink)).dead_letter_sink
    )


def test_a_dead_letter_says_where_why_and_what_came_back() -> None:
    """The URL, the status and the response body in base64."""
    expected = [
        ("ce_knativeerrordest", b"http://s/"),
        ("ce_knativeerrorcode", b"500"),
        ("ce_knativeerrordata", b"b29wcw=="),
    ]
    assert expected == error_extensions("http://s/", Outcome(status=500, body=b"oops"))


def test_a_dead_letter_without_a_response_has_only_the_url() -> None:
    """There is no status and no body to report."""
    assert [("ce_knativeerrordest", b"http://s/")] == error_extensions(
        "http://s/", Outcome(failure=Failure.TIMEOUT)
    )


def test_the_body_is_cut_before_base64() -> None:
    """The first 1,024 bytes are kept."""
    extensions = dict(error_extensions("http://s/", Outcome(status=500, body=b"x" * 5_000)))
    assert b"x" * 1_024 == b64decode(extensions["ce_knativeerrordata"])


def test_kne_headers_become_extensions() -> None:
    """`kne-<name>` is copied as `<name>`. Of repeated names, the first is used."""
    headers = [(b"kne-code", b"7"), (b"kne-code", b"8"), (b"content-type", b"x")]
    assert ("ce_code", b"7") == error_extensions("http://s/", Outcome(status=500, headers=headers))[
        -1
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"kne-", b"x"),
        (b"kne-a_b", b"x"),
        (b"kne-" + b"a" * 33, b"x"),
        (b"kne-id", b"x"),
        (b"kne-specversion", b"2.0"),
        (b"kne-knativeerrordest", b"x"),
        (b"kne-ok", b""),
        (b"kne-ok", b"a\x00b"),
        (b"kne-ok", b"a\tb"),
        (b"kne-ok", b"\xff"),
        (b"kne-ok", b"x" * 1_025),
        (b"kne-ok", "\u0085".encode()),
    ],
)
def test_kne_headers_that_would_break_the_event_are_left_out(name: bytes, value: bytes) -> None:
    """Names and values must be valid in a CloudEvent, and the event's own attributes are kept."""
    extensions = error_extensions("http://s/", Outcome(status=500, headers=[(name, value)]))
    assert ["ce_knativeerrordest", "ce_knativeerrorcode"] == [each for each, _ in extensions]


def test_kne_headers_are_bounded() -> None:
    """A subscriber must not make a dead letter larger than its topic accepts."""
    headers = [(b"kne-n%d" % number, b"x") for number in range(100)]
    assert KNE_HEADERS_MAX + 2 == len(
        error_extensions("http://s/", Outcome(status=500, headers=headers))
    )


@pytest.mark.parametrize("reason", list(DeadLetterReason))
def test_the_document_explains_every_reason(reason: DeadLetterReason) -> None:
    """docs/delivery.md lists the reasons that an operator finds in a dead letter topic."""
    assert f"| `{reason}` |" in DOCUMENT.read_text()
