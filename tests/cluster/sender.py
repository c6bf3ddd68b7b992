"""Runs in a pod: sends numbered events until a file says stop, and keeps its counts in a file.

`python sender.py URL DIRECTORY`. An event that is not accepted is sent once more; one that is not
accepted then is counted as refused. Needs the standard library only.
"""

import http.client
import json
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

SENDERS = 4
INTERVAL_SECONDS = 0.1
PAUSE_SECONDS = 1.0
"""Before the second attempt."""
TIMEOUT_SECONDS = 15.0


class Sender:
    """One connection, which is kept as long as it works."""

    def __init__(self, url: str, name: str, directory: Path) -> None:
        self._host, self._path = urlsplit(url).netloc, urlsplit(url).path
        self._name = name
        self._stop = directory / "stop"
        self._accepted = (directory / f"accepted-{name}").open("a", buffering=1)
        self._connection: http.client.HTTPConnection | None = None
        self.retried = 0
        self.refused: list[str] = []

    def run(self) -> None:
        """Send until the file `stop` exists."""
        number = 0
        while not self._stop.exists():
            event = f"{self._name}-{number}"
            number += 1
            failure = self._attempt(event)
            if failure:
                self.retried += 1
                time.sleep(PAUSE_SECONDS)
                failure = self._attempt(event)
            if failure:
                self.refused.append(f"{time.strftime('%H:%M:%S')} {event}: {failure}")
            else:
                print(event, file=self._accepted)
            time.sleep(INTERVAL_SECONDS)

    def _attempt(self, event: str) -> str:
        """Send it; the reason if it was not accepted."""
        headers = {
            "ce-specversion": "1.0",
            "ce-id": event,
            "ce-source": "/sender",
            "ce-type": "numbered",
            "content-type": "application/json",
        }
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self._host, timeout=TIMEOUT_SECONDS)
            self._connection.request("POST", self._path, b"{}", headers)
            response = self._connection.getresponse()
            text = response.read(1000).decode("utf-8", errors="replace")
        except (OSError, http.client.HTTPException) as error:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return f"{type(error).__name__}: {error}"
        return "" if response.status == 202 else f"{response.status} {text}"


def main() -> None:
    """Send with several connections; write the counts when all have ended."""
    url, directory = sys.argv[1], Path(sys.argv[2])
    senders = [Sender(url, f"s{number}", directory) for number in range(SENDERS)]
    threads = [threading.Thread(target=each.run) for each in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = {
        "retried": sum(each.retried for each in senders),
        "refused": [line for each in senders for line in each.refused],
    }
    (directory / "counts.json").write_text(json.dumps(counts))
    threading.Event().wait()


if __name__ == "__main__":
    main()
