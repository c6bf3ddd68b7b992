"""Run the targets under the fuzzer and print what was run: `make fuzz ARGS="--seconds 600"`.

The code is imported and instrumented once. Each target then has its own process, because libFuzzer
controls, prints to and ends it; as many run in parallel as there are processors. The exit code is 1
if a target failed, and the input is printed.
"""

import argparse
import base64
import contextlib
import importlib.util
import io
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")
FOLDER = Path(".cache/fuzz")
INPUT_SECONDS_MAX = 20
"""An input that takes this long is stopped: one that hangs in C code cannot be timed otherwise."""
END_SECONDS = INPUT_SECONDS_MAX + 10.0
"""Time that a target may take to end after its share."""
MEMORY_MIB_MAX = 1_024
SHOWN_LINES = 25


@dataclass(frozen=True)
class Run:
    """The result of one target."""

    name: str
    executions: int
    seconds: float
    failure: str
    """The end of its output and the input, empty if it did not fail."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz; the exit code."""
    parser = argparse.ArgumentParser(
        prog="make fuzz", description="Fuzz the readers of external bytes."
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="time of all targets together, imports included"
    )
    parser.add_argument("targets", nargs="*", help="names of targets, all by default")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("atheris") is None:
        print(
            "no fuzzer here: Atheris 3.0 has wheels for Linux on x86_64 with CPython 3.11 to 3.13"
            " only; nothing was fuzzed"
        )
        return 0
    start = time.monotonic()
    names = _instrumented()
    if unknown := [name for name in options.targets if name not in names]:
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(names)}")
    runs = _run_all(options.targets or names, start + options.seconds)
    for run in runs:
        print(
            f"  {run.name:<18} {run.executions:>9,} executions in {run.seconds:5.1f}"
            f" s{'  FAILED' if run.failure else ''}"
        )
    failed = [run for run in runs if run.failure]
    for run in failed:
        print(f"\n{run.name} failed:\n{run.failure}")
    total = sum(run.executions for run in runs)
    print(
        f"{total:,} executions of {len(runs)} targets in {time.monotonic() - start:.0f} s;"
        f" {len(failed)} failed"
    )
    return 1 if failed else 0


def _instrumented() -> list[str]:
    import atheris

    packages = ["headrace", "headrace_apiserver", "headrace_controller", "headrace_ingress"]
    with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=packages):
        from tests.fuzz.targets import TARGETS
    return list(TARGETS)


def _run_all(names: Sequence[str], end: float) -> list[Run]:
    """Run each for its share of the time that is left until `end`."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    at_once = min(os.cpu_count() or 1, len(names))
    waiting, started, runs = list(names), dict[int, tuple[str, float, float]](), dict[str, Run]()
    while waiting or started:
        while waiting and len(started) < at_once:
            now = time.monotonic()
            share = max(1, int((end - now) * at_once / (len(waiting) + len(started))))
            name = waiting.pop(0)
            started[_start(name, share)] = name, now, now + share + END_SECONDS
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            name, since, _ = started.pop(pid)
            runs[name] = _judge(name, os.waitstatus_to_exitcode(status), time.monotonic() - since)
            continue
        for pid, (_, _, deadline) in started.items():
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return [runs[name] for name in names]


def _start(name: str, seconds: int) -> int:
    """Start a target; the id of its process."""
    for artifact in FOLDER.glob(f"{name}!*"):
        artifact.unlink()
    if pid := os.fork():
        return pid
    # The child never returns: libFuzzer ends it.
    try:
        output = os.open(_log(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        _fuzz(name, seconds)
    finally:
        os._exit(1)


def _fuzz(name: str, seconds: int) -> None:
    import atheris

    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    found = FOLDER / name
    found.mkdir(exist_ok=True)
    arguments = [
        name,
        f"-max_total_time={seconds}",
        f"-max_len={target.bytes_max}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MIB_MAX}",
        f"-artifact_prefix={FOLDER}/{name}!",
        "-print_final_stats=1",
        str(found),
        str(CORPUS / name),
    ]
    atheris.Setup(arguments, target.run)
    atheris.Fuzz()


def _log(name: str) -> Path:
    return FOLDER / f"{name}.log"


def _judge(name: str, code: int, seconds: float) -> Run:
    output = _log(name).read_text(errors="replace")
    executed = re.findall(r"stat::number_of_executed_units: +(\d+)", output)
    executions = int(executed[-1]) if executed else 0
    failure = ""
    if code or not executions:
        failure = "\n".join(output.splitlines()[-SHOWN_LINES:])
        for artifact in FOLDER.glob(f"{name}!*"):
            failure += f"\n{artifact} in base64: {base64.b64encode(artifact.read_bytes()).decode()}"
    return Run(name, executions, seconds, failure)


if __name__ == "__main__":
    sys.exit(main())
