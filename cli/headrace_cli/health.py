"""`headrace health`: ask a health page and answer by the exit code, for container health checks in images without curl."""

import sys
from typing import Annotated

import typer

ASK_SECONDS = 3.0
PAGE_BYTES_MAX = 65_536


def health(
    url: Annotated[str, typer.Argument(help="A /readyz, /livez or /healthz page.")] = "http://127.0.0.1:9464/readyz",
) -> None:
    """Exit with 0 when the page says ok (2xx), else with 1 and the reason."""
    import urllib3

    try:
        with urllib3.PoolManager(retries=False, timeout=ASK_SECONDS) as pool:
            response = pool.request("GET", url, preload_content=False, redirect=False)
            page = response.read(PAGE_BYTES_MAX).decode("utf-8", errors="replace").strip()
            response.close()
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        sys.stderr.write(f"{url} does not answer: {error}\n")
        raise typer.Exit(1) from None
    healthy = 200 <= response.status < 300
    (sys.stdout if healthy else sys.stderr).write(f"{page}\n")
    raise typer.Exit(0 if healthy else 1)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("health")(health)
