"""Laws of the delivery schedule, for any policy and any outcome."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.dead_letter import error_extensions
from headrace.domain.delivery import (
    JITTER_SHARE,
    BackoffPolicy,
    DeadLetter,
    DeliveryPolicy,
    Done,
    Failure,
    Outcome,
    Retry,
    Verdict,
    backoff_seconds,
    classify,
    decide,
)
from headrace.resources.delivery_spec import DeliverySpec, merge, parse

seconds = st.floats(min_value=0, max_value=1e6)
policies = st.builds(
    DeliveryPolicy,
    retry=st.integers(0, 2**31 - 1),
    timeout_seconds=seconds,
    backoff=st.sampled_from(BackoffPolicy),
    delay_seconds=seconds,
    backoff_max_seconds=seconds,
    retry_after_max_seconds=seconds,
)
header_values = st.one_of(
    st.binary(max_size=70), st.integers(0, 10**9).map(lambda number: b"%d" % number)
)
outcomes = st.one_of(
    st.builds(
        Outcome,
        status=st.integers(100, 999),
        headers=st.lists(st.tuples(st.just(b"retry-after"), header_values), max_size=2),
    ),
    st.builds(Outcome, failure=st.sampled_from(Failure)),
)
attempts = st.integers(1, 2**31)
jitters = st.floats(min_value=-1, max_value=1)
NOW = 1_700_000_000.0
ROUNDING = 1e-3


@given(policies, attempts, outcomes, jitters)
def test_a_decision_follows_the_verdict(
    policy: DeliveryPolicy, attempt: int, outcome: Outcome, jitter: float
) -> None:
    """Delivered is done; rejected is a dead letter; retryable is a retry until the attempts are
    used up, and only until then.
    """
    decision = decide(policy, attempt, outcome, NOW, jitter)
    match classify(outcome):
        case Verdict.DELIVERED:
            assert isinstance(decision, Done)
        case Verdict.REJECTED:
            assert isinstance(decision, DeadLetter)
        case Verdict.RETRYABLE:
            assert (attempt <= policy.retry) is isinstance(decision, Retry)


@given(policies, attempts, outcomes, jitters)
def test_a_delay_stays_within_its_bounds(
    policy: DeliveryPolicy, attempt: int, outcome: Outcome, jitter: float
) -> None:
    """Never shorter than the jittered backoff, never longer than the two limits, never negative."""
    decision = decide(policy, attempt, outcome, NOW, jitter)
    if not isinstance(decision, Retry):
        return
    backoff = backoff_seconds(policy, attempt)
    longest = max(policy.backoff_max_seconds * (1 + JITTER_SHARE), policy.retry_after_max_seconds)
    assert backoff * (1 - JITTER_SHARE) - ROUNDING <= decision.wait_seconds <= longest + ROUNDING
    assert NOW <= decision.at
    assert attempt + 1 == decision.attempt


@given(policies, st.integers(1, 200))
def test_the_backoff_never_shrinks(policy: DeliveryPolicy, retry: int) -> None:
    """Each delay is at least as long as the one before."""
    assert backoff_seconds(policy, retry) <= backoff_seconds(policy, retry + 1)


@given(st.integers(0, 50), outcomes)
def test_an_event_has_at_most_retry_plus_one_attempts(retry: int, outcome: Outcome) -> None:
    """Following the decisions ends, after exactly `retry` + 1 attempts when every one is
    retryable.
    """
    policy, attempt = DeliveryPolicy(retry=retry), 1
    while isinstance(decision := decide(policy, attempt, outcome, NOW, 0.0), Retry):
        attempt = decision.attempt
    assert attempt == (retry + 1 if classify(outcome) is Verdict.RETRYABLE else 1)


specs = st.builds(
    DeliverySpec,
    retry=st.none() | st.integers(0, 5),
    timeout_seconds=st.none() | st.just(1.0),
    backoff=st.none() | st.sampled_from(BackoffPolicy),
    delay_seconds=st.none() | st.sampled_from([0.0, 2.0]),
)


@given(specs, specs)
def test_merging_prefers_trigger_then_broker_then_default(
    trigger: DeliverySpec, broker: DeliverySpec
) -> None:
    """Field by field, and zero counts as set."""
    merged, default = merge(trigger, broker), DeliveryPolicy()
    for name in ("retry", "timeout_seconds", "backoff", "delay_seconds"):
        said = [
            value
            for value in (getattr(trigger, name), getattr(broker, name), getattr(default, name))
            if value is not None
        ]
        assert said[0] == getattr(merged, name)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
names = st.sampled_from(
    [
        "retry",
        "timeout",
        "backoffPolicy",
        "backoffDelay",
        "backoffMax",
        "retryAfterMax",
        "format",
        "deadLetterSink",
    ]
)


@given(st.dictionaries(names | st.text(max_size=5), anything, max_size=8))
def test_any_manifest_gives_a_policy_and_errors(block: dict[str, object]) -> None:
    """Nothing is raised, each invalid field is reported once, and the rest is usable."""
    spec, errors = parse(block, "spec.delivery")
    named = [path for error in errors for path in error.paths]
    assert len(errors) == len(named) == len(set(named)) <= len(block)
    assert merge(spec, None).retry >= 0


@given(
    outcomes,
    st.lists(
        st.tuples(
            st.binary(max_size=40).map(lambda name: b"kne-" + name.lower()), st.binary(max_size=40)
        ),
        max_size=40,
    ),
)
def test_error_extensions_are_valid_and_bounded(
    outcome: Outcome, headers: list[tuple[bytes, bytes]]
) -> None:
    """Whatever the response was, the headers of a dead letter are valid CloudEvents attributes,
    once each, and small.
    """
    extensions = error_extensions(
        "http://s/", Outcome(outcome.status, headers, b"x" * 2_000, failure=outcome.failure)
    )
    found = [name for name, _ in extensions]
    assert len(set(found)) == len(found)
    assert all(
        name.removeprefix("ce_").isalnum() and value.decode().isprintable()
        for name, value in extensions
    )
    assert sum(len(name) + len(value) for name, value in extensions) < 32_768
