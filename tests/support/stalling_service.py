"""A small service under the watchdog, as a process:
`python -m tests.support.stalling_service SECONDS WHAT`.

It prints `turning` when its loop runs, and then blocks it in the given way; `nothing` does not
block it.
"""

import asyncio
import re
import socket
import sys
import threading

from headrace.runtime.logging import configure
from headrace.runtime.process import ExitCode, exit_process
from headrace.runtime.service import Service, run_service
from headrace.runtime.settings import LogFormat, LogSettings
from headrace.runtime.watchdog import Watchdog


def hold(what: str) -> None:
    """Block the caller."""
    if what == "regex":
        re.match(r"(a+)+$", "a" * 64 + "b")
    elif what == "lock":
        threading.Event().wait()
    elif what == "socket":
        read_end, write_end = socket.socketpair()
        with read_end, write_end:
            read_end.recv(1)
    elif what == "python":
        while True:
            pass


async def main(seconds: float, what: str) -> ExitCode:
    """Run the loop, then block it."""
    service = Service("stalling")
    service.add("watchdog", Watchdog("stalling", seconds))

    async def started() -> None:
        print("turning", flush=True)
        asyncio.get_running_loop().call_later(0.1, hold, what)

    return await service.run(started)


if __name__ == "__main__":
    configure(LogSettings(format=LogFormat.JSON), service="stalling")
    exit_process(run_service(lambda: main(float(sys.argv[1]), sys.argv[2])))
