"""Containers of a ContainerSource on a real Docker: they reach a sink on the loopback address, get
their environment, and none is left behind.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from headrace.runtime.clock import SystemClock
from headrace_sources.adapters.container import orphans
from headrace_sources.adapters.container.config import ContainerConfig
from headrace_sources.adapters.container.source import ContainerSource
from headrace_sources.settings import ContainersMode, SourcesSettings
from tests.support.sources import RecordingContext, RecordingEmit, running
from tests.support.subscriber import serving
from tests.support.wait_until import wait_until

IMAGE = "python:3.13-slim-bookworm"
POST = """
import json, os, sys, time, urllib.request
body = json.dumps([dict(os.environ), sys.argv[1:], os.getcwd()]).encode()
headers = {"ce-id": "1", "ce-source": "/x", "ce-type": "t", "ce-specversion": "1.0"}
urllib.request.urlopen(urllib.request.Request(os.environ["K_SINK"], body, headers), timeout=10)
print("posted", flush=True)
time.sleep(600)
"""

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("HEADRACE_TEST_COMPOSE") != "1",
        reason="starts Docker containers: run by `make test-compose`",
    ),
    pytest.mark.timeout(300),
]


def config(sink: str, script: str = POST, **more: Any) -> dict[str, Any]:
    """A source with one container that runs a Python script."""
    container = {"name": "main", "image": IMAGE, "command": ["python3", "-c", script], **more}
    return {"sink": sink, "containers": [container]}


def context_of(uid: str) -> RecordingContext:
    """A context whose settings allow Docker."""
    return RecordingContext(
        uid=uid,
        clock=SystemClock(),
        settings=SourcesSettings(containers=ContainersMode.DOCKER),
        secrets={("credentials", "token"): b"two\nlines"},
    )


def containers(uid: str) -> list[str]:
    """The ids of the containers of a source, running or not."""
    done = subprocess.run(
        ["docker", "ps", "-aq", f"--filter=label={orphans.SOURCE_LABEL}={uid}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.split()


async def shown(context: RecordingContext, status: bool) -> str:
    """The message of the condition, once it has this status."""
    async with asyncio.timeout(60):
        while (found := context.conditions.get("ReceiveAdapterReady", (None,)))[0] is not status:
            await asyncio.sleep(0.05)
    return str(found[2])


@pytest.mark.clause("O4")
async def test_a_container_sends_to_a_sink_on_this_machine() -> None:
    """With variables, Secrets, arguments and directory; it is removed with the source."""
    uid = str(uuid.uuid4())
    env = [
        {"name": "PLAIN", "value": "-e x=y"},
        {"name": "TOKEN", "secretKeyRef": {"name": "credentials", "key": "token"}},
    ]
    async with serving() as sink:
        wanted = config(
            sink.url, env=env, args=["--to=$(K_SINK)", "--privileged"], workingDir="/tmp"
        )
        context = context_of(uid)
        source = ContainerSource(ContainerConfig.model_validate(wanted), context)
        async with running(source, RecordingEmit()):
            await sink.wait_for_requests(1, timeout_seconds=60.0)
            await shown(context, True)
            assert len(containers(uid)) == 1
        environment, arguments, directory = json.loads(sink.requests[0].body)
    assert environment["K_SINK"] == wanted["sink"]
    assert (environment["PLAIN"], environment["TOKEN"]) == ("-e x=y", "two\nlines")
    assert arguments == [f"--to={wanted['sink']}", "--privileged"]
    assert directory == "/tmp"
    assert containers(uid) == []


@pytest.mark.parametrize(
    ("image", "script", "shown_text"),
    [
        (IMAGE, "import sys; sys.exit('no such queue')", "no such queue"),
        ("headrace.invalid/none:1", "", "Docker cannot start container main"),
        ("--privileged", "", "Docker cannot start container main"),
    ],
)
async def test_why_a_container_does_not_run_is_shown(
    image: str, script: str, shown_text: str
) -> None:
    """What it wrote last, or what Docker says."""
    uid = str(uuid.uuid4())
    wanted = config("http://127.0.0.1:9/x", script, image=image, imagePullPolicy="Never")
    context = context_of(uid)
    source = ContainerSource(ContainerConfig.model_validate(wanted), context)
    async with running(source, RecordingEmit()):
        assert shown_text in await shown(context, False)
    assert containers(uid) == []


async def test_a_container_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    """By the next one on this machine, whichever source that one runs."""
    killed, other = str(uuid.uuid4()), str(uuid.uuid4())
    # The first process of a container ignores SIGTERM unless it has a handler.
    stay = "import time; time.sleep(600)"
    wanted = json.dumps(config("http://127.0.0.1:9/x", stay))
    with (tmp_path / "log").open("w") as log:
        starter = subprocess.Popen(
            [sys.executable, "-m", "tests.support.container_starter", wanted, "docker", killed],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: containers(killed), 60, "the container runs")
        os.kill(starter.pid, signal.SIGKILL)
        starter.wait()
        assert containers(killed)
        context = context_of(other)
        source = ContainerSource(ContainerConfig.model_validate_json(wanted), context)
        async with running(source, RecordingEmit()):
            await shown(context, True)
            assert containers(killed) == []
    finally:
        starter.kill()
        starter.wait()
        for each in containers(killed):
            subprocess.run(["docker", "rm", "--force", each], check=True, timeout=30)
