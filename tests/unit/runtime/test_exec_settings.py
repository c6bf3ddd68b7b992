"""Settings that one process reads and another process uses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.adapters.kafka.options import GroupProtocol
from headrace.runtime import exec_settings
from headrace.runtime.settings import KafkaSettings, LogFormat, LogSettings, SecurityProtocol
from headrace_controller.settings import ControllerSettings
from headrace_ingress.settings import IngressSettings


def through_a_pipe(line: bytes) -> exec_settings.ExecSettings:
    """Read the settings from a pipe that contains this line and more."""
    ours, theirs = os.pipe()
    try:
        os.write(theirs, line + b"rest")
        found = exec_settings.read(ours)
        assert b"rest" == os.read(ours, 10)
        return found
    finally:
        os.close(ours)
        os.close(theirs)


def test_settings_come_through_a_pipe_as_they_were_read(tmp_path: Path) -> None:
    """This holds for paths, enums, numbers and unset values. Nothing after the line is read from
    the pipe.
    """
    own = IngressSettings(
        port=1234,
        workers=3,
        compression="lz4",
        produce_seconds=2.5,
        tls_certificate_file=tmp_path,
        tls_key_file=tmp_path,
    )
    kafka = KafkaSettings(
        bootstrap_servers="a:1",
        security_protocol=SecurityProtocol.SSL,
        group_protocol=GroupProtocol.CONSUMER,
    )
    given = through_a_pipe(
        exec_settings.write(own=own, kafka=kafka, logs=LogSettings(format=LogFormat.JSON))
    )
    assert own == given.take("own", IngressSettings)
    assert kafka == given.take("kafka", KafkaSettings)
    assert LogFormat.JSON is given.take("logs", LogSettings).format
    assert isinstance(given.take("own", IngressSettings).tls_key_file, Path)
    assert "cluster" not in given


def test_all_settings_of_a_service_fit_into_a_pipe() -> None:
    """They fit even with the longest paths that a system allows."""
    long = Path("/" + "x" * 1_000)
    own = ControllerSettings(
        token_file=long,
        client_ca_file=long,
        tls_cert_file=long,
        tls_key_file=long,
        kubeconfig_out=long,
    )
    kafka = KafkaSettings(sasl_username_file=long, sasl_password_file=long, ssl_ca_file=long)
    assert (
        len(exec_settings.write(own=own, kafka=kafka, logs=LogSettings()))
        < exec_settings.LINE_BYTES_MAX
    )


def test_a_pipe_that_ends_before_anything_was_said_is_an_error() -> None:
    """The process does not wait forever."""
    ours, theirs = os.pipe()
    os.close(theirs)
    with pytest.raises(EOFError):
        exec_settings.read(ours)
    os.close(ours)


@pytest.mark.parametrize("service", ["ingress", "dispatcher"])
def test_a_data_plane_process_imports_nothing_that_only_reads_settings(service: str) -> None:
    """These modules use 18 MiB. Only the command line imports them, before it is replaced by the
    service.
    """
    settings_and_screens = (
        "annotated_types",
        "pydantic",
        "pydantic_core",
        "typer",
        "rich.console",
    )
    of_others = (
        "fastapi",
        "starlette",
        "uvicorn",
        "urllib3",
        "yaml",
        "headrace_controller",
        "headrace_cli",
    )
    heavy = (
        *settings_and_screens,
        *of_others,
        *({"headrace_ingress", "headrace_dispatcher"} - {f"headrace_{service}"}),
    )
    code = (
        f"import sys; import headrace_{service}.__main__; print([name for name in {heavy!r} if name"
        " in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert "[]" == done.stdout.strip()


@pytest.mark.parametrize("service", ["ingress", "dispatcher", "controller"])
def test_the_process_that_reads_settings_imports_nothing_that_only_a_service_needs(
    service: str,
) -> None:
    """It ends as soon as it has read them, so each import is time that the start takes longer."""
    heavy = ("asyncio", "ssl", "structlog", "rich", "confluent_kafka", f"headrace_{service}.app")
    code = (
        f"import sys; import headrace_cli.main, headrace_cli.services, headrace.runtime.loading;"
        f" import headrace_{service}.settings;"
        f" print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert "[]" == done.stdout.strip()
