"""When the certificates of a process expire: a metric, so that an alert comes before clients and
brokers refuse them.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from headrace.runtime.certificates import validity
from headrace.runtime.metrics import Metrics
from headrace.runtime.settings import Settings

FILE_BYTES_MAX: Final = 1_048_576
"""What is read of a file: its first certificate is the process's own."""


def measure_certificates(metrics: Metrics, component: str, settings: Iterable[Settings]) -> None:
    """Export when the certificates that these settings name expire, as they are in their files at
    each scrape: a process uses a renewed one without a restart.

    A file without a certificate that can be read leaves the value as it is, or has none: who uses
    it reports why.
    """
    files = [pair for each in settings for pair in each.certificates().items()]

    def update() -> None:
        for use, file in files:
            dates = validity(_read(file))
            if dates is not None:
                metrics.gauge(
                    "certificate_expiry_timestamp_seconds",
                    "When the certificate expires that the process uses as a server, or as a client"
                    " of Kafka or NATS: seconds since 1970.",
                    ("component", "use"),
                    across="livemin",
                ).labels(component, use).set(dates[1].timestamp())

    if files:
        metrics.before_scrape(update)


def _read(file: Path) -> bytes:
    if not file.is_file():  # The content of a pipe can be read only once.
        return b""
    try:
        with file.open("rb") as opened:
            return opened.read(FILE_BYTES_MAX)
    except OSError:
        return b""
