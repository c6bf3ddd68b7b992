"""Evaluates a rule that may be expensive in a process of its own, which is killed when it takes too
long.

The library cannot be interrupted within one operation, and no estimate separates a rule that is
expensive from one that only could be. So a rule with a high upper bound costs the start of a
process, and one that is in fact expensive ends with it. `python -m` this module is that process: it
reads a request from standard input and writes a response.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Mapping
from time import thread_time
from typing import Any, NamedTuple

from headrace_apiserver.schemas.cel_environment import environment

CPU_SECONDS_MAX = 1
"""Processor time of the process, including its start."""
WALL_SECONDS_MAX = 2.5
"""How long a thread waits for the process (the event loop never waits, see `loop_budget`): a write
may check the new object and the old one.
"""
_BYTES_MAX = 512 * 1024 * 1024
"""Address space of the process."""
_MODULE = "headrace_apiserver.schemas.cel_process"


class EvaluationResult(NamedTuple):
    """The result of one evaluation."""

    value: bool | str | None
    """A boolean or a text; None for any other value, and for an error."""
    error: str
    """The library's error; empty if there is none."""
    cpu_seconds: float


class TooExpensive(Exception):
    """The evaluation was stopped."""


def evaluate_in_subprocess(
    text: str, *, extended: bool, variables: Mapping[str, Any]
) -> EvaluationResult:
    """Evaluate a translated rule. Raises TooExpensive when the process was killed or cannot be
    started.
    """
    # `repr` and `literal_eval`, because a value may contain bytes, which JSON does not have.
    request = repr((text, extended, dict(variables))).encode("utf-8", "surrogatepass")
    command = [sys.executable, "-P", "-m", _MODULE]
    try:
        done = subprocess.run(  # noqa: S603
            command, input=request, capture_output=True, timeout=WALL_SECONDS_MAX, check=False
        )
        if done.returncode:
            raise TooExpensive
        return EvaluationResult(**json.loads(done.stdout))
    except (OSError, subprocess.TimeoutExpired, ValueError, TypeError) as error:
        raise TooExpensive from error


def _evaluate(request: bytes) -> EvaluationResult:
    text, extended, variables = ast.literal_eval(request.decode("utf-8", "surrogatepass"))
    started = thread_time()
    try:
        found = environment(extended).compile(text).eval(data=variables)
        value = found.value()
        if found.type().name() == "ERROR":
            return EvaluationResult(None, str(value), thread_time() - started)
    except RuntimeError as error:
        return EvaluationResult(None, str(error), thread_time() - started)
    return EvaluationResult(
        value if isinstance(value, bool | str) else None, "", thread_time() - started
    )


def _main() -> None:
    import resource  # not on every system; without it this process and the rule fail

    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS_MAX, CPU_SECONDS_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES_MAX, _BYTES_MAX))
    outcome = _evaluate(sys.stdin.buffer.read())
    sys.stdout.write(json.dumps(outcome._asdict()))


if __name__ == "__main__":
    _main()
