"""Structured logs: pretty on a terminal, JSON lines elsewhere; the standard library's and uvicorn's
go the same way.

What may be logged: names, counts, durations, reasons. Never an event's data or attributes' values,
never a header's value, never a secret; the last line of defence here cuts long values.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from headrace.runtime.console_renderer import console_processors
from headrace.runtime.kafka_log_hints import KafkaLogHints
from headrace.runtime.settings import LogFormat, LogSettings

VALUE_CHARACTERS_MAX = 1000
KINDS_MAX = 256
_REPETITIVE = ("headrace.kafka", "headrace.kafka.client")
"""Where the lines of the Kafka client library come."""
_NOISY = {
    "asyncio": logging.WARNING,
    "uvicorn.access": logging.WARNING,
    "uvicorn.error": logging.WARNING,
    "urllib3": logging.WARNING,
}


def configure(settings: LogSettings, stream: TextIO | None = None, *, service: str = "") -> None:
    """Set up logging of this process, once at its start. `service` is added to every line; `stream`
    is standard error by default.
    """
    stream = stream or sys.stderr
    pretty = settings.format is LogFormat.PRETTY or (
        settings.format is LogFormat.AUTO and stream.isatty()
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if pretty else "iso", utc=not pretty),
        structlog.stdlib.PositionalArgumentsFormatter(),
        _add(service),
        _cut,
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=console_processors(stream) if pretty else _machine(),
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.value.upper())
    naming = KafkaLogHints()
    for name in _REPETITIVE:
        logger = logging.getLogger(name)
        logger.filters[:] = [naming, RateLimitFilter()]
    for name, level in _NOISY.items():
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(level, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


class RateLimitFilter(logging.Filter):
    """Lets one line of a kind through in `seconds`, and says with the next how many were left out.

    Each of a hundred Kafka clients tells of each failed connection, twenty times a second: while
    Kafka is away the reason must be seen, and other lines beside it.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write this line."""
        text = record.getMessage()
        kind = (record.levelname, text.split(" ", 1)[0])
        begun, left_out = self._seen.get(kind, (float("-inf"), 0))
        if record.created - begun < self._seconds:
            self._seen[kind] = (begun, left_out + 1)
            return False
        if len(self._seen) >= KINDS_MAX:
            self._seen.clear()
        self._seen[kind] = (record.created, 0)
        if left_out:
            record.msg, record.args = f"{text} (and {left_out} more of this kind)", ()
        return True


def _machine() -> list[structlog.typing.Processor]:
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        # Tracebacks without local variables: they would hold payloads.
        structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
        ),
        structlog.processors.JSONRenderer(),
    ]


def _add(service: str) -> structlog.typing.Processor:
    def add(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if service:
            event.setdefault("service", service)
        return event

    return add


def _cut(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, bytes | bytearray | memoryview):
            event[name] = f"<{len(value)} bytes>"
        elif isinstance(value, str) and len(value) > VALUE_CHARACTERS_MAX:
            event[name] = f"{value[:VALUE_CHARACTERS_MAX]}… ({len(value)} characters)"
    return event
