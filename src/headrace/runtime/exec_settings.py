"""Settings on their way from the process that read them to the one that lives by them, as a line of
JSON on a pipe.

The command line needs libraries that a service does not: 18 MiB of them, for as long as it lives.
So it reads the settings and then becomes the service, by `exec`: same process id, same files, same
signals. Workers of one service get theirs the same way. What is handed over are paths of secret
files, never secrets.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from headrace.runtime.settings import Settings

LINE_BYTES_MAX: Final = 16_384
"""What fits into a pipe before it is read, on every system."""

SettingsT = TypeVar("SettingsT", bound=Settings)


class ExecSettings:
    """What was handed over, by name."""

    def __init__(self, document: Mapping[str, Mapping[str, Any]]) -> None:
        self._document = document

    def __contains__(self, name: object) -> bool:
        return name in self._document

    def take(self, name: str, kind: type[SettingsT]) -> SettingsT:
        """The settings under this name, which are of this kind; checked when they were read. Raises
        KeyError for others.
        """
        hints = get_type_hints(kind, include_extras=True)
        return kind(
            **{
                field: _restored(hints[field], value)
                for field, value in self._document[name].items()
            }
        )


def write(**settings: Settings) -> bytes:
    """One line of JSON."""
    return (
        json.dumps(
            {name: dataclasses.asdict(each) for name, each in settings.items()}, default=str
        ).encode()
        + b"\n"
    )


def read(descriptor: int) -> ExecSettings:
    """What `write` wrote, from a pipe, byte by byte, so that nothing behind it is taken off. Raises
    EOFError when nobody wrote.
    """
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
        byte = os.read(descriptor, 1)
        if not byte:
            raise EOFError("the pipe ended before it said what to do")
        line += byte
    return ExecSettings(json.loads(line))


def exec_module(module: str, **settings: Settings) -> NoReturn:
    """Replace this process by `python -m module FD`, where it can `read` these from that
    descriptor.
    """
    line = write(**settings)
    if len(line) > LINE_BYTES_MAX:
        raise ValueError(
            f"settings of {len(line)} bytes cannot be handed over; {LINE_BYTES_MAX} are the limit"
        )
    ours, theirs = os.pipe()
    os.write(theirs, line)
    os.close(theirs)
    os.set_inheritable(ours, True)
    sys.stdout.flush()
    sys.stderr.flush()
    # -P: files in the current directory are not importable.
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, str(ours)])  # noqa: S606 - there is no shell


def _restored(hint: Any, value: Any) -> Any:
    """A value as its field has it: JSON knows neither paths nor enums."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    for kind in get_args(hint) or (hint,):
        if isinstance(kind, type) and issubclass(kind, Path | Enum) and value is not None:
            return kind(value)
    return value
