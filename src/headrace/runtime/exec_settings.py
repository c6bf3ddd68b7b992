"""Passes settings from the process that reads them to the process that uses them, as a line of JSON
on a pipe.

The command line needs libraries that a service does not need. They use 18 MiB of memory as long as
the process lives. So the command line reads the settings and then becomes the service by `exec`:
same process id, same files, same signals. The workers of a service receive their settings in the
same way. The settings contain the paths of secret files, never secrets.
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
"""Size that fits into a pipe before it is read, on every system."""

SettingsT = TypeVar("SettingsT", bound=Settings)


class ExecSettings:
    """The settings that were passed, by name."""

    def __init__(self, document: Mapping[str, Mapping[str, Any]]) -> None:
        self._document = document

    def __contains__(self, name: object) -> bool:
        return name in self._document

    def take(self, name: str, kind: type[SettingsT]) -> SettingsT:
        """Return the settings with this name, as an instance of `kind`. They were validated when
        they were read. Raises KeyError for an unknown name.
        """
        hints = get_type_hints(kind, include_extras=True)
        return kind(
            **{
                field: _restored(hints[field], value)
                for field, value in self._document[name].items()
            }
        )


def write(**settings: Settings) -> bytes:
    """Return the settings as one line of JSON."""
    return (
        json.dumps(
            {name: dataclasses.asdict(each) for name, each in settings.items()}, default=str
        ).encode()
        + b"\n"
    )


def read(descriptor: int) -> ExecSettings:
    """Read what `write` returned from a pipe. Reads byte by byte, so that data after the line stays
    in the pipe. Raises EOFError when the pipe is closed before a complete line.
    """
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
        byte = os.read(descriptor, 1)
        if not byte:
            raise EOFError("the pipe ended before it said what to do")
        line += byte
    return ExecSettings(json.loads(line))


def exec_module(module: str, **settings: Settings) -> NoReturn:
    """Replace this process by `python -m module FD`. The module can `read` the settings from that
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
    """Convert a value to the type of its field: JSON has neither paths nor enums."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    for kind in get_args(hint) or (hint,):
        if isinstance(kind, type) and issubclass(kind, Path | Enum) and value is not None:
            return kind(value)
    return value
