"""Laws of the breaker, compared with a simple model that keeps the whole history."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace.domain.breaker import Breaker, BreakerRules, BreakerState, trips
from headrace.domain.delivery import Failure, Outcome

RULES = BreakerRules(
    attempts_min=8,
    events_min=3,
    span_seconds=2.0,
    probe_delay_seconds=1.0,
    probe_delay_max_seconds=4.0,
)
CONCURRENCY = 8
bad = st.sampled_from(
    [
        Outcome(status=503),
        Outcome(status=429),
        Outcome(failure=Failure.TIMEOUT),
        Outcome(failure=Failure.CONNECT),
    ]
)
good = st.sampled_from([Outcome(status=202), Outcome(status=500), Outcome(status=404)])
OPEN_STATES = frozenset((BreakerState.OPEN, BreakerState.PROBING))


class BreakerAgainstModel(RuleBasedStateMachine):
    """A client that obeys the breaker, and a history of every attempt that ended."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(CONCURRENCY, RULES)
        self.now = 0.0
        self.in_flight: list[int] = []
        self.probe: int | None = None
        self.ended: list[tuple[int, bool, float]] = []

    @rule(seconds=st.floats(min_value=0, max_value=3))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(events=st.permutations(range(12)))
    def start_all_that_is_allowed(self, events: list[int]) -> None:
        allowed = self.breaker.allows(len(self.in_flight), self.now)
        if self.breaker.state in OPEN_STATES:
            assert allowed <= 1
            assert self.probe is None or allowed == 0
        for event in [event for event in events if event not in self.in_flight][:allowed]:
            if self.breaker.state is BreakerState.OPEN:
                self.probe = event
            self.breaker.started(event)
            self.in_flight.append(event)

    @precondition(lambda self: self.in_flight)
    @rule(outcome=st.one_of(bad, bad, bad, good), data=st.data())
    def one_ends(self, outcome: Outcome, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(self.in_flight))
        self.end(event, outcome)

    @rule(
        outcome=bad,
        rounds=st.integers(1, 12),
        width=st.integers(1, 6),
        pause=st.sampled_from([0.0, 0.1, 0.5]),
        left=st.integers(0, 2),
    )
    def a_few_events_fail_again_and_again(
        self, outcome: Outcome, rounds: int, width: int, pause: float, left: int
    ) -> None:
        """The same events, at any rate, while older attempts are in flight; also the probe, if it
        is among them.
        """
        for _ in range(rounds):
            self.start_all_that_is_allowed(list(range(width)))
            for event in self.in_flight[left:]:
                self.end(event, outcome)
                self.now += pause

    @precondition(lambda self: self.probe is not None and len(self.in_flight) > 1)
    @rule(outcome=bad)
    def stragglers_fail_while_the_probe_is_out(self, outcome: Outcome) -> None:
        for event in [event for event in self.in_flight if event != self.probe]:
            self.end(event, outcome)
            assert BreakerState.PROBING is self.breaker.state

    @precondition(lambda self: self.breaker.next_probe_at is not None)
    @rule()
    def the_next_probe_falls_due(self) -> None:
        self.now = max(self.now, self.breaker.next_probe_at or 0.0)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def one_is_withdrawn(self, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(self.in_flight))
        self.in_flight.remove(event)
        if event == self.probe:
            self.probe = None
        self.breaker.withdraw(event, self.now)

    def end(self, event: int, outcome: Outcome) -> None:
        self.in_flight.remove(event)
        was = self.breaker.state
        self.breaker.record(event, outcome, self.now)
        self.ended.append((event, trips(outcome), self.now))
        if not trips(outcome):
            assert self.breaker.state not in OPEN_STATES
            self.probe = None
        elif event == self.probe:
            assert BreakerState.OPEN is self.breaker.state
            self.probe = None
        if was not in OPEN_STATES and self.breaker.state in OPEN_STATES:
            self.must_have_been_a_streak()

    def must_have_been_a_streak(self) -> None:
        streak: list[tuple[int, bool, float]] = []
        for entry in reversed(self.ended):
            if not entry[1]:
                break
            streak.append(entry)
        assert len(streak) >= RULES.attempts_min
        assert len({event for event, _, _ in streak}) >= RULES.events_min
        assert streak[0][2] - streak[-1][2] >= RULES.span_seconds

    @invariant()
    def a_probe_is_known_while_probing(self) -> None:
        assert (self.breaker.state is BreakerState.PROBING) == (self.probe is not None)

    @invariant()
    def the_next_probe_has_a_time_only_while_open(self) -> None:
        assert (self.breaker.state is BreakerState.OPEN) == (self.breaker.next_probe_at is not None)
        if self.breaker.next_probe_at is not None:
            assert self.breaker.next_probe_at <= self.now + RULES.probe_delay_max_seconds

    @invariant()
    def never_more_than_the_lanes(self) -> None:
        allowed = self.breaker.allows(len(self.in_flight), self.now)
        assert 0 <= allowed <= CONCURRENCY

    @invariant()
    def something_may_always_start_in_the_end(self) -> None:
        """Unless a probe is in flight, time alone brings the next attempt."""
        if self.breaker.state is not BreakerState.PROBING:
            assert self.breaker.allows(0, self.now + RULES.probe_delay_max_seconds) >= 1


TestBreakerAgainstModel = BreakerAgainstModel.TestCase
TestBreakerAgainstModel.settings = settings(max_examples=100, stateful_step_count=40)


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.booleans(), st.floats(min_value=0, max_value=1)),
        max_size=200,
    )
)
def test_it_never_opens_while_one_of_the_last_attempts_was_answered(
    history: list[tuple[int, bool, float]],
) -> None:
    """Whatever the mixture, an answer among the last `attempts_min` keeps it closed; a long series
    of failures opens it.
    """
    breaker, now, recent = Breaker(CONCURRENCY, RULES), 0.0, []
    for event, failed, pause in history:
        now += pause
        recent.append(failed)
        breaker.record(event, Outcome(status=503 if failed else 202), now)
        if breaker.state is BreakerState.OPEN:
            assert all(recent[-RULES.attempts_min :])
            return


@given(st.integers(1, 64), st.integers(0, 200))
def test_answers_alone_always_close_it(concurrency_max: int, spare: int) -> None:
    """After an opening, a successful probe and enough answers restore the closed state."""
    breaker = Breaker(concurrency_max, BreakerRules(attempts_min=1, events_min=1, span_seconds=0.0))
    breaker.record("event", Outcome(status=503), 0.0)
    breaker.started("probe")
    for _ in range(2 * concurrency_max + spare + 1):
        breaker.record("probe", Outcome(status=202), 1.0)
    assert (BreakerState.CLOSED, concurrency_max) == (breaker.state, breaker.allows(0, 1.0))
