"""One Camel process: the files that it reads, its command line, and what its output says.

Properties may hold secrets, so they are in a file that only this user can read, and that is removed
when Camel has read it.
"""

import json
import re
import shutil
import signal
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from headrace_sources.adapters.camel.routes import INVALID, Routes, sink_routes
from headrace_sources.source import SourceFault

STARTED: Final = re.compile(r"Apache Camel \S+ \(.*\) started in ")
_KNATIVE_BEAN: Final = {
    "camel.beans.knative": "#class:org.apache.camel.component.direct.DirectComponent"
}
_ROUTES: Final = "routes"
_METASPACE_MB: Final = 192
_OUT_OF_MEMORY: Final = "java.lang.OutOfMemoryError"
_CLASS_NAME: Final = re.compile(r"(?:[a-z]\w*\.)+[A-Z]\w*?(?:Exception|Error): ")
_THROWN: Final = re.compile(r'Exception in thread "[^"]*" |Caused by: |Error: ')
_SHOWN_MAX: Final = 400
SECRET_CHARACTERS_MIN: Final = 4
"""Shorter values are not looked for in the output."""


class CamelFiles:
    """The directory of one Camel process."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="headrace-camel-"))
        """With mode 0700."""

    def write(self, routes: Routes, properties: Mapping[str, str], sink_url: str) -> None:
        """Write routes and properties. Raises OSError."""
        (self.directory / _ROUTES).mkdir(mode=0o700)
        files = {**routes.files, "sink.yaml": json.dumps(sink_routes(sink_url))}
        for name, content in files.items():
            self._write(f"{_ROUTES}/{name}", content)
        own = {
            "camel.main.routesIncludePattern": f"file:{self.directory}/{_ROUTES}/*",
            "camel.main.autoConfigurationLogSummary": "false",
            "camel.main.startupSummaryLevel": "Oneline",
            "camel.main.shutdownTimeout": "2",
            **(_KNATIVE_BEAN if "knative.yaml" in files else {}),
        }
        self._write("application.properties", properties_text({**properties, **own}))

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _write(self, name: str, content: str) -> None:
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(content, encoding="utf-8")


def command(directory: Path, jars: Path, heap_mb: int) -> list[str]:
    """Return the command that runs Camel."""
    return [
        "java",
        f"-Xmx{heap_mb}m",
        f"-XX:MaxMetaspaceSize={_METASPACE_MB}m",
        f"-XX:MaxDirectMemorySize={heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-Dorg.slf4j.simpleLogger.showThreadName=false",
        "-Dorg.slf4j.simpleLogger.showShortLogName=true",
        "-cp",
        f"{directory}:{jars}/*",
        "org.apache.camel.main.Main",
    ]


def properties_text(properties: Mapping[str, str]) -> str:
    """Return a file of Java properties, in ASCII."""
    return "".join(f"{_escaped(name)}={_escaped(value)}\n" for name, value in properties.items())


def read_properties(text: str) -> dict[str, str]:
    """Read a file of properties of the form `name = value`; lines with # or ! are comments."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and name[:1] not in "#!":
            found[name.strip()] = value.strip()
    return found


def without_secrets(line: str, secrets: Collection[str]) -> str:
    """Return a line of output in which these values are not shown."""
    for each in secrets:
        if len(each) >= SECRET_CHARACTERS_MIN:
            line = line.replace(each, "***")
    return line


def fault_of(code: int, lines: Collection[str], directory: Path, *, started: bool) -> SourceFault:
    """Say why Camel has ended, from its exit code and the last lines of its output."""
    if any(_OUT_OF_MEMORY in line for line in lines):
        return SourceFault(
            "OutOfMemory",
            "Camel used all of its memory; set HEADRACE_SOURCES_CAMEL_HEAP_MB to more, or read"
            " smaller messages",
        )
    cause = _cause(lines).replace(f"file:{directory}/{_ROUTES}/", "")[:_SHOWN_MAX]
    if not started and cause:
        return SourceFault(INVALID, f"Camel does not run these routes: {cause}")
    how = f"with exit code {code}"
    if code > 128 and code - 128 in set(signal.Signals):
        how = f"by {signal.Signals(code - 128).name}"
    return SourceFault("CamelEnded", f"Camel has ended {how}{': ' if cause else ''}{cause}")


def _cause(lines: Collection[str]) -> str:
    """The innermost cause of the last exception; its class is left out."""
    found = ""
    for line in lines:
        if begin := _THROWN.match(line):
            found = line[begin.end() :]
    match = _CLASS_NAME.match(found)
    return found[match.end() :] if match else found


def _escaped(text: str) -> str:
    return "".join(
        each
        if " " < each <= "~" and each not in "\\=:#!"
        else f"\\u{ord(each):04x}"
        if ord(each) < 0x10000
        else "".join(f"\\u{unit:04x}" for unit in _surrogates(each))
        for each in text
    )


def _surrogates(character: str) -> tuple[int, int]:
    value = ord(character) - 0x10000
    return 0xD800 + (value >> 10), 0xDC00 + (value & 0x3FF)
