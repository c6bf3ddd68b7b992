"""Containers of a ContainerSource as processes of this machine: real processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from headrace.runtime.clock import SystemClock
from headrace_sources.adapters.container import source as module
from headrace_sources.adapters.container.config import ContainerConfig
from headrace_sources.adapters.container.source import ContainerSource
from headrace_sources.settings import ContainersMode, SourcesSettings
from headrace_sources.source import SourceFault
from tests.support.sources import RecordingContext, RecordingEmit, running
from tests.support.wait_until import wait_until

SINK = "http://127.0.0.1:8080/default/orders"
READY = "ReceiveAdapterReady"
SHOW = """
import json, os, sys, time
from pathlib import Path
with Path(sys.argv[1]).open("a") as file:
    file.write(json.dumps([dict(os.environ), sys.argv[2:], os.getcwd()]) + "\\n")
print("the token is", os.environ.get("TOKEN"), flush=True)
"""
STAY = f"{SHOW}\ntime.sleep(600)\n"


def container(name: str, script: str, *args: str, **more: Any) -> dict[str, Any]:
    """A container whose command runs a Python script."""
    command = [sys.executable, "-c", script]
    return {"name": name, "image": "unused", "command": command, "args": args, **more}


def create(
    *containers: dict[str, Any], mode: ContainersMode | None = ContainersMode.PROCESS, **more: Any
) -> tuple[ContainerSource, RecordingContext]:
    """A source, and the context that it has."""
    context = RecordingContext(
        clock=SystemClock(),
        settings=SourcesSettings(containers=mode),
        secrets={("credentials", "token"): b"s3cret"},
    )
    config = ContainerConfig.model_validate({"sink": SINK, "containers": containers, **more})
    return ContainerSource(config, context), context


async def until(path: Path, count: int = 1) -> list[Any]:
    """What the runs of `SHOW` have written, once there are `count` of them."""
    async with asyncio.timeout(20):
        while len(lines := path.read_text().splitlines() if path.exists() else []) < count:
            await asyncio.sleep(0.02)
    return [json.loads(line) for line in lines]


async def shown(context: RecordingContext, *wanted: Any) -> tuple[bool | None, str, str]:
    """The condition, once it has this status and this reason."""
    async with asyncio.timeout(20):
        while (found := context.conditions.get(READY, (None, "", "")))[: len(wanted)] != wanted:
            await asyncio.sleep(0.02)
    return found


@pytest.mark.clause("O4")
async def test_a_program_learns_its_sink_and_what_its_template_says(tmp_path: Path) -> None:
    """Variables, values of Secrets, arguments and directory; its output is logged, without the
    values of Secrets.
    """
    out = tmp_path / "out"
    env = [
        {"name": "PLAIN", "value": "1"},
        {"name": "REFERRING", "value": "$(PLAIN)2"},
        {"name": "TOKEN", "secretKeyRef": {"name": "credentials", "key": "token"}},
    ]
    args = (str(out), "--to=$(K_SINK)")
    source, context = create(
        container("main", STAY, *args, env=env, workingDir=str(tmp_path)),
        extensions={"team": "red"},
    )
    with capture_logs() as logs:
        async with running(source, RecordingEmit()):
            ((environment, arguments, directory),) = await until(out)
            await shown(context, True)
            async with asyncio.timeout(10):
                while not any(each["event"] == "container_output" for each in logs):
                    await asyncio.sleep(0.02)
    assert environment["K_SINK"] == SINK
    assert json.loads(environment["K_CE_OVERRIDES"]) == {"extensions": {"team": "red"}}
    assert (environment["REFERRING"], environment["TOKEN"]) == ("12", "s3cret")
    assert arguments == [f"--to={SINK}"]
    assert directory == str(tmp_path)
    assert context.conditions["SinkBindingReady"][0] is True
    line = next(each for each in logs if each["event"] == "container_output")
    assert (line["line"], line["name"], line["container"]) == ("the token is ***", "source", "main")


@pytest.mark.clause("O4")
async def test_a_legacy_program_gets_the_argument_and_variable_of_its_time(tmp_path: Path) -> None:
    """Beside those of today."""
    out = tmp_path / "out"
    source, _ = create(container("main", STAY, str(out)), legacy=True)
    async with running(source, RecordingEmit()):
        ((environment, arguments, _),) = await until(out)
    assert (environment["SINK"], environment["K_SINK"]) == (SINK, SINK)
    assert arguments == [f"--sink={SINK}"]


async def test_a_program_that_ends_is_started_again(tmp_path: Path) -> None:
    """The condition says how it ended and what it wrote last, and is True again when it runs."""
    out = tmp_path / "out"
    script = f"{SHOW}\nif os.path.exists(sys.argv[2]): time.sleep(600)\n" + (
        "open(sys.argv[2], 'w').close()\nsys.exit('no such queue')"
    )
    env = [{"name": "TOKEN", "secretKeyRef": {"name": "credentials", "key": "token"}}]
    source, context = create(container("main", script, str(out), f"{out}.again", env=env))
    async with running(source, RecordingEmit()):
        _, _, message = await shown(context, False, "CrashLoopBackOff")
        assert message == (
            "container main has ended with exit code 1, it is started again in 1 s; its last"
            " lines: the token is ***; no such queue"
        )
        await until(out, 2)
        await shown(context, True)


async def test_a_program_that_does_not_exist_is_named() -> None:
    """And so is a directory."""
    missing = {"name": "main", "image": "unused", "command": ["/does/not/exist"]}
    source, context = create(missing)
    async with running(source, RecordingEmit()):
        _, _, message = await shown(context, False)
    assert "cannot run /does/not/exist" in message
    source, context = create(container("main", STAY, "x", workingDir="/no/such/directory"))
    async with running(source, RecordingEmit()):
        _, _, message = await shown(context, False)
    assert "/no/such/directory" in message


async def test_init_containers_run_first_and_to_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other; one that fails is tried again."""
    monkeypatch.setattr(module.BACKOFF.__class__, "seconds", lambda *_: 0.1)
    out = tmp_path / "out"
    failing = f"{SHOW}\nsys.exit(0 if len(open(sys.argv[1]).readlines()) > 1 else 3)"
    source, context = create(
        container("main", STAY, str(out), "main"),
        container("other", STAY, str(out), "other"),
        initContainers=[container("first", failing, str(out), "first")],
    )
    async with running(source, RecordingEmit()):
        found = await until(out, 4)
        await shown(context, True)
    names = [arguments[0] for _, arguments, _ in found]
    assert names[:2] == ["first", "first"]
    assert sorted(names[2:]) == ["main", "other"]


async def test_all_processes_end_with_the_source(tmp_path: Path) -> None:
    """Those that the program has started, too, and though they ignore SIGTERM."""
    out = tmp_path / "out"
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + STAY.replace(
        "time.sleep", "import subprocess; subprocess.Popen(['sleep', '600'])\ntime.sleep"
    )
    source, _ = create(container("main", script, str(out)))
    # Other tests keep processes of their own, such as a Kafka.
    before = set(psutil.Process().children(recursive=True))
    async with running(source, RecordingEmit()):
        await until(out)
        async with asyncio.timeout(10):
            while len(below := set(psutil.Process().children(recursive=True)) - before) < 3:
                await asyncio.sleep(0.02)
    assert [each for each in below if _alive(each)] == []


def test_nothing_is_left_after_kill_9(tmp_path: Path) -> None:
    """Of the process that runs the source."""
    out = tmp_path / "out"
    config = {"sink": SINK, "containers": [container("main", STAY, str(out))]}
    starter = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.support.container_starter"),
            *(json.dumps(config), "process", "uid-killed"),
        ]
    )
    try:
        wait_until(lambda: out.exists() and out.read_text(), 20, "the program runs")
        below = psutil.Process(starter.pid).children(recursive=True)
        assert len(below) >= 2
        os.kill(starter.pid, signal.SIGKILL)
        wait_until(lambda: not any(map(_alive, below)), 10, "all have ended")
    finally:
        starter.kill()
        starter.wait()


@pytest.mark.parametrize("mode", [None, ContainersMode.OFF])
async def test_nothing_runs_unless_an_operator_allows_it(mode: ContainersMode | None) -> None:
    """The condition names the setting."""
    source, _ = create(container("main", STAY), mode=mode)
    with pytest.raises(SourceFault, match="HEADRACE_SOURCES_CONTAINERS=docker") as caught:
        await source.run(RecordingEmit())
    assert (caught.value.reason, caught.value.condition) == ("ContainersDisabled", READY)


async def test_a_missing_docker_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both are allowed, a process takes its place."""
    monkeypatch.setenv("PATH", str(tmp_path))
    source, _ = create(container("main", STAY), mode=ContainersMode.DOCKER)
    with pytest.raises(SourceFault, match="no docker command"):
        await source.run(RecordingEmit())
    out = tmp_path / "out"
    source, context = create(
        container("main", STAY, str(out)), mode=ContainersMode.PROCESS_AND_DOCKER
    )
    async with running(source, RecordingEmit()):
        await shown(context, True)


async def test_a_docker_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what the docker command says."""
    fake = tmp_path / "docker"
    fake.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    fake.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    source, _ = create(container("main", STAY), mode=ContainersMode.DOCKER)
    with pytest.raises(SourceFault, match="Cannot connect to the Docker daemon"):
        await source.run(RecordingEmit())


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
