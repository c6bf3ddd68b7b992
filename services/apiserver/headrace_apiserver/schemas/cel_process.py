"""Evaluates a rule in a process of its own that the system ends when it takes too long: for rules
that may be expensive.

The library cannot be interrupted inside one operation, and no estimate separates a rule that is
expensive from one that only could be. So a rule whose bound is high costs the start of a process,
and one that is expensive ends with it. `python -m` this module is that process: it reads a request
from its standard input and writes an answer.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Mapping
from time import thread_time
from typing import Any, NamedTuple

CPU_SECONDS_MAX = 1
"""Processor time of the process, its start included."""
WALL_SECONDS_MAX = 2.5
"""How long a thread waits for it (never the loop, see `patience`): a write may check the new object
and the old one.
"""
_BYTES_MAX = 512 * 1024 * 1024
"""Address space of the process."""
_MODULE = "headrace_apiserver.schemas.cel_process"


class EvaluationResult(NamedTuple):
    """What came of one evaluation."""

    value: bool | str | None
    """A truth or a text; None for every other value, and for an error."""
    error: str
    """The library's error; empty when there is none."""
    cpu_seconds: float


class TooExpensive(Exception):
    """The evaluation was ended."""


def evaluated_apart(text: str, *, extended: bool, variables: Mapping[str, Any]) -> EvaluationResult:
    """Evaluate a translated rule. Raises TooExpensive when the process was ended, or cannot be
    started.
    """
    # `repr` and `literal_eval`: JSON has no bytes, which a value may hold.
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
    # Imported here: the module that starts this process imports this one.
    from headrace_apiserver.schemas.cel import environment

    text, extended, variables = ast.literal_eval(request.decode("utf-8", "surrogatepass"))
    begun = thread_time()
    try:
        found = environment(extended).compile(text).eval(data=variables)
        value = found.value()
        if found.type().name() == "ERROR":
            return EvaluationResult(None, str(value), thread_time() - begun)
    except RuntimeError as error:
        return EvaluationResult(None, str(error), thread_time() - begun)
    return EvaluationResult(
        value if isinstance(value, bool | str) else None, "", thread_time() - begun
    )


def _main() -> None:
    import resource  # not on every system; without it this process fails, and the rule with it

    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS_MAX, CPU_SECONDS_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES_MAX, _BYTES_MAX))
    outcome = _evaluate(sys.stdin.buffer.read())
    sys.stdout.write(json.dumps(outcome._asdict()))


if __name__ == "__main__":
    _main()
