"""Waiting for something that a process requires."""

import pytest
from structlog.testing import capture_logs

from headrace.domain.errors import LogUnavailable, Permanent, Temporary, TopicMissing
from headrace.runtime import retry
from headrace.runtime.retry import retry_until_success


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.0)


class Answers:
    """Raises the given errors one after the other, then returns."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)

    async def __call__(self) -> str:
        if self._errors:
            raise self._errors.pop(0)
        return "here"


async def test_it_repeats_until_there_is_an_answer_and_says_why_there_is_none() -> None:
    """There is one reason for each failed attempt."""
    reasons: list[str] = []
    answers = Answers(LogUnavailable("nobody there"), LogUnavailable("still loading"))
    assert "here" == await retry_until_success(answers, waiting=reasons.append)
    assert [
        "Kafka cannot be used yet: nobody there",
        "Kafka cannot be used yet: still loading",
    ] == reasons


@pytest.mark.parametrize(("seconds", "hints"), [(0.0, 2), (3_600.0, 0)])
async def test_the_log_names_the_setting_when_kafka_does_not_answer_for_long(
    monkeypatch: pytest.MonkeyPatch, seconds: float, hints: int
) -> None:
    """Not for other errors: Kafka answers then."""
    monkeypatch.setattr(retry, "HINT_SECONDS", seconds)
    answers = Answers(LogUnavailable("nobody"), TopicMissing("topic"), LogUnavailable("nobody"))
    with capture_logs() as logged:
        await retry_until_success(answers, waiting=lambda _: None)
    steps = [each["next_step"] for each in logged if "next_step" in each]
    assert hints == len(steps)
    assert all("KAFKA_BOOTSTRAP_SERVERS" in each for each in steps)


async def test_a_permanent_error_is_raised() -> None:
    """A caller may repeat only after some errors."""
    with pytest.raises(Permanent):
        await retry_until_success(
            Answers(Permanent("no right to")), waiting=lambda _: None, retry_on=Temporary
        )
