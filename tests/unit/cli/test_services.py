"""The commands that run services, with settings that are invalid: one line of the log, exit code 2,
and no service.
"""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

RUN = "from headrace_cli.entry_point import main; main()"
VARIABLE = "HEADRACE_MANAGEMENT_PORT"


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, VARIABLE: "70000", **more}


@pytest.mark.parametrize("service", ["ingress", "dispatcher", "controller", "sources", "in-memory"])
def test_an_invalid_setting_is_a_json_line_where_logs_are(service: str) -> None:
    """As every other line, so that a collector of logs can read it."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, service],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (2, "") == (done.returncode, done.stdout)
    [line] = done.stderr.splitlines()
    found = json.loads(line)
    assert {"event": "start_failed", "level": "error", "service": service}.items() <= found.items()
    assert VARIABLE == found["setting"]
    assert f"{VARIABLE}: Input should be less than or equal to 65535" == found["error"]
    assert "docs/settings.md" in found["next_step"]
    assert "timestamp" in found


@pytest.mark.parametrize(
    ("variables", "is_json"),
    [({}, False), ({"HEADRACE_LOG_FORMAT": "json"}, True), ({"HEADRACE_LOG_LEVEL": "loud"}, False)],
)
def test_on_a_terminal_it_is_a_sentence(variables: dict[str, str], is_json: bool) -> None:
    """Unless the format of logs is set."""
    reader, writer = pty.openpty()
    try:
        code = subprocess.run(
            [sys.executable, "-c", RUN, "ingress"],
            env=_environment(**variables),
            stdout=subprocess.DEVNULL,
            stderr=writer,
            timeout=60,
            check=False,
        ).returncode
        [line] = os.read(reader, 65_536).decode().splitlines()
    finally:
        os.close(writer)
        os.close(reader)
    assert 2 == code
    assert is_json == line.startswith("{")
    if not is_json:
        assert line.startswith("headrace ingress: HEADRACE_")


def test_a_certificate_that_cannot_be_used_is_reported_in_the_same_form(
    tmp_path: Path,
) -> None:
    """It is read by the service itself, after its start."""
    file = tmp_path / "tls.crt"
    file.write_text("no certificate")
    done = subprocess.run(
        [sys.executable, "-c", RUN, "ingress", "--port", "0", "--management-port", "0"],
        env={
            **os.environ,
            "HEADRACE_INGRESS_TLS_CERTIFICATE_FILE": str(file),
            "HEADRACE_INGRESS_TLS_KEY_FILE": str(file),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 2 == done.returncode, done.stderr
    found = json.loads(done.stderr.splitlines()[-1])
    assert "start_failed" == found["event"]
    assert (
        "HEADRACE_INGRESS_TLS_CERTIFICATE_FILE, HEADRACE_INGRESS_TLS_KEY_FILE" == found["setting"]
    )
    assert "next_step" in found


@pytest.mark.parametrize("service", ["controller", "sources"])
def test_a_kubeconfig_that_does_not_exist(service: str, tmp_path: Path) -> None:
    """The service ends before it connects to anything. Before, `sources` ran and could not read a
    Secret.
    """
    file = tmp_path / "none"
    done = subprocess.run(
        [
            *(sys.executable, "-c", RUN, service, "--kubeconfig", str(file)),
            *("--port", "0", "--management-port", "0", "--bootstrap-servers", "127.0.0.1:9"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 2 == done.returncode, done.stderr
    [line] = done.stderr.splitlines()
    found = json.loads(line)
    assert "start_failed" == found["event"]
    assert found["error"].startswith(f"--kubeconfig {file}: no such file; name the kubeconfig of")
