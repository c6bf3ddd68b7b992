"""Whether a process is alive and may be sent work, as named checks; `management.py` answers
`/livez`, `/healthz` and `/readyz` with it.

Live means that the event loop turns, nothing else: a restart heals no dependency. Ready means that
it can do its work: routing table read, Kafka reachable, not draining. No check may depend on what
an event contains.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

Check = Callable[[], str | None]
"""None when fine, else the reason in one sentence. Cheap and without waiting: it reads what the
part knows.
"""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check said."""

    name: str
    reason: str | None

    @property
    def passed(self) -> bool:
        """Whether it was fine."""
        return self.reason is None


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What all checks said."""

    results: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every one was fine."""
        return all(result.passed for result in self.results)

    def text(self, *, verbose: bool) -> str:
        """One line per check as the Kubernetes API server writes them; the failed ones only unless
        `verbose`, `ok` when all is fine.
        """
        if self.passed and not verbose:
            return "ok"
        lines = [
            f"[+]{each.name} ok" if each.passed else f"[-]{each.name} failed: {each.reason}"
            for each in self.results
            if verbose or not each.passed
        ]
        return "\n".join([*lines, "ok" if self.passed else "check failed"])


class Health:
    """The checks of one process."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._started = False
        self._draining: str | None = None

    def add(self, name: str, check: Check) -> None:
        """Ask this before saying ready. A name may be used once."""
        if name in self._checks:
            raise ValueError(f"there is a readiness check {name!r} already")
        self._checks[name] = check

    def remove(self, name: str) -> None:
        """Ask it no more."""
        self._checks.pop(name, None)

    def started(self) -> None:
        """Everything has started."""
        self._started = True

    def drain(self, reason: str) -> None:
        """Say not ready from now on: no new work, please."""
        self._draining = self._draining or reason

    @property
    def draining(self) -> bool:
        """Whether `drain` was called."""
        return self._draining is not None

    def liveness(self) -> HealthReport:
        """That this could be asked at all is the proof."""
        return HealthReport((CheckResult("loop", None),))

    def readiness(self, exclude: Collection[str] = ()) -> HealthReport:
        """Whether work is welcome; `exclude` leaves checks out."""
        return HealthReport(tuple(result for result in self._ask() if result.name not in exclude))

    def _ask(self) -> Iterable[CheckResult]:
        yield CheckResult("started", None if self._started else "still starting")
        yield CheckResult("shutdown", self._draining)  # as a Kubernetes API server calls it
        for name, check in self._checks.items():
            yield CheckResult(name, _answer(check))


def _answer(check: Check) -> str | None:
    try:
        return check()
    except (
        Exception
    ) as error:  # A broken check must show as not ready with its reason, not as a broken page.
        return f"the check itself failed: {type(error).__name__}"
