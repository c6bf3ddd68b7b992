"""Requests a health page and returns the result as exit code, for health checks in images without
curl: `python -m headrace.runtime.probe [URL]`. By default the page is `/readyz` of the management
port of `HEADRACE_MANAGEMENT_PORT`.

Uses the standard library only, because a container runs it every few seconds: 50 ms of CPU time
instead of the 800 ms of the complete command line.
"""

import http.client
import os
import sys
from urllib.parse import urlsplit

PROBE_SECONDS = 3.0
PAGE_BYTES_MAX = 65_536
PORT_VARIABLE = "HEADRACE_MANAGEMENT_PORT"


def probe(url: str) -> tuple[bool, str]:
    """Return whether the page reports success (2xx), and its text or the reason why there is no
    page.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            return False, f"{url} is not an http:// address"
        connection = http.client.HTTPConnection(
            parts.hostname, parts.port or 80, timeout=PROBE_SECONDS
        )
        try:
            connection.request(
                "GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            )
            response = connection.getresponse()
            page = response.read(PAGE_BYTES_MAX).decode("utf-8", errors="replace").strip()
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return False, f"{url} does not answer: {error}"
    return 200 <= response.status < 300, page


def main(arguments: list[str]) -> int:
    """Return 0 if healthy, 1 if not, 2 for wrong usage."""
    port = os.environ.get(PORT_VARIABLE)
    if len(arguments) > 1 or not (arguments or port):
        sys.stderr.write(
            "usage: python -m headrace.runtime.probe [URL]; the URL may be left out where"
            f" {PORT_VARIABLE} is set\n"
        )
        return 2
    healthy, text = probe(arguments[0] if arguments else f"http://127.0.0.1:{port}/readyz")
    (sys.stdout if healthy else sys.stderr).write(f"{text}\n")
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
