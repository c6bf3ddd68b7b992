"""Apache Camel in tests: whether it can run here, and its processes."""

import psutil
import pytest

from headrace_sources.adapters.camel.artifacts import missing_programs

_LACK = missing_programs()
needs_camel = pytest.mark.skipif(_LACK is not None, reason=f"Camel cannot run here: {_LACK}")


def camel_processes() -> list[psutil.Process]:
    """The processes of Camel that this process and its children have started."""
    return [each for each in psutil.Process().children(recursive=True) if _is_camel(each)]


def _is_camel(process: psutil.Process) -> bool:
    try:
        command = process.cmdline()
        return (
            process.status() != psutil.STATUS_ZOMBIE
            and command[:1] == ["java"]
            and "org.apache.camel.main.Main" in command
        )
    except psutil.NoSuchProcess:
        return False
