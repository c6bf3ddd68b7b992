"""Named checks of whether a process is alive and ready. `management.py` serves the result at
`/livez`, `/healthz`, `/readyz` and `/startupz`.

Started means that all components have started once. Live means only that the event loop runs: a
restart does not repair a dependency. Ready means that the process can do its work: routing table
read, Kafka reachable, not draining. A check must not depend on the content of events.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

Check = Callable[[], str | None]
"""Returns None if the check passes, otherwise the reason in one sentence. Must be cheap and must
not block: it reads state that the component already has.
"""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check."""

    name: str
    reason: str | None

    @property
    def passed(self) -> bool:
        """Whether the check passed."""
        return self.reason is None


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The results of all checks."""

    results: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(result.passed for result in self.results)

    def text(self, *, verbose: bool) -> str:
        """Return one line per check, in the format of the Kubernetes API server. Without `verbose`,
        only the failed checks, or `ok` if all passed.
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
        """Add a readiness check. Raises ValueError if the name is already used."""
        if name in self._checks:
            raise ValueError(f"there is a readiness check {name!r} already")
        self._checks[name] = check

    def remove(self, name: str) -> None:
        """Remove a readiness check."""
        self._checks.pop(name, None)

    def started(self) -> None:
        """Record that all components have started."""
        self._started = True

    def drain(self, reason: str) -> None:
        """Report not ready from now on, so that no new work is sent."""
        self._draining = self._draining or reason

    @property
    def draining(self) -> bool:
        """Whether `drain` was called."""
        return self._draining is not None

    def liveness(self) -> HealthReport:
        """Return the liveness report. The call itself proves that the loop runs."""
        return HealthReport((CheckResult("loop", None),))

    def startup(self) -> HealthReport:
        """Return the startup report: passed from the end of the start to the end of the process."""
        return HealthReport((self._start_result(),))

    def readiness(self, exclude: Collection[str] = ()) -> HealthReport:
        """Return the readiness report; `exclude` omits checks."""
        return HealthReport(tuple(result for result in self._ask() if result.name not in exclude))

    def _start_result(self) -> CheckResult:
        return CheckResult("started", None if self._started else "still starting")

    def _ask(self) -> Iterable[CheckResult]:
        yield self._start_result()
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
