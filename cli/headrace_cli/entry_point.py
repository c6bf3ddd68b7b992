"""Entry point of the `headrace` command. It reports which extra is missing.

`pip install headrace` installs the library without dependencies, and the command with it. This
module imports the standard library only, so that it also runs in that installation.
"""

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import NoReturn

_DATA_PLANE = (
    "confluent_kafka",
    "httptools",
    "nats",
    "prometheus_client",
    "pydantic",
    "structlog",
    "typer",
    "uvloop",
)
_INGRESS = (*_DATA_PLANE, "jsonschema_rs")
_CONTROLLER = (
    *_DATA_PLANE,
    "aiokafka",
    "cel_expr_python",
    "fastapi",
    "httpx2",
    "jsonschema_rs",
    "lightkube",
    "starlette",
    "uvicorn",
    "yaml",
)
_SOURCES = (*_DATA_PLANE, "httpx2", "lightkube")
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "ingress": _INGRESS,
    "dispatcher": (*_DATA_PLANE, "aiokafka"),
    "controller": _CONTROLLER,
    "sources": _SOURCES,
    "all": (*_CONTROLLER, "rich", "urllib3"),
}
"""Libraries that the commands that run services import, by extra. They are checked before the
commands start, because the commands import most of them in a new process or in a running event
loop, too late for one clear message.
"""
EXTRAS: Mapping[str, str] = {
    "ingress": "ingress",
    "dispatcher": "dispatcher",
    "controller": "controller",
    "sources": "sources",
    "in-memory": "ingress",
    "up": "all",
}
"""The extra that each command needs; `cli` for all others."""
IMAGES = ("ingress", "dispatcher", "controller", "sources", "cli")
"""The extras that have an image (services/Dockerfile)."""
_NOT_STARTED = 2
"""`headrace.runtime.process.ExitCode.NOT_STARTED`, which cannot be imported here."""


def main() -> None:
    """Run the command line, or exit with code 2 and one sentence that names the extra to install,
    and the image that has it.
    """
    command = next((each for each in sys.argv[1:] if not each.startswith("-")), "")
    extra = EXTRAS.get(command, "cli")
    for library in LIBRARIES.get(extra, ()):
        if find_spec(library) is None:
            _exit(command, extra, library)
    try:
        from headrace_cli.main import main as run_command

        run_command()
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if not library or library.startswith("headrace"):
            raise
        _exit(command, extra, library)


def _exit(command: str, extra: str, library: str) -> NoReturn:
    image = f", or use the image headrace/{extra}" if extra in IMAGES else ""
    sys.stderr.write(
        f"{f'headrace {command}'.strip()} needs the library {library}, which is not installed:"
        f' pip install "headrace[{extra}]"{image}\n'
    )
    sys.exit(_NOT_STARTED)
