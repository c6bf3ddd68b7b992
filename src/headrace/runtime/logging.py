"""Configures logging, for structlog and for the standard library: readable lines on a terminal,
JSON lines elsewhere.

The convention: `logger = structlog.get_logger(__name__)` in every module that logs, a literal
snake_case event name as the first argument, everything variable in fields (`error=`, `namespace=`,
`name=`, `kind=`, `topic=`, `next_step=`). Event names are for searches and alerts. Lines of other
libraries (uvicorn, asyncio, librdkafka) keep their text as the event.

Logs may contain names, counts, durations and reasons, and the id and trace of an event that failed.
They must never contain the data of an event, the values of its other attributes, the value of a
header, or a secret. As a last safeguard, long values
are truncated here.
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
"""The loggers that the Kafka client library writes to."""
_EXTRA_FIELDS = ("error", "next_step", "suppressed")
"""Fields that the filters below add to lines of the Kafka client library."""
_NOISY = {
    "asyncio": logging.WARNING,
    "httpcore2": logging.WARNING,
    "httpx2": logging.WARNING,
    "uvicorn.access": logging.WARNING,
    "uvicorn.error": logging.WARNING,
    "urllib3": logging.WARNING,
}


def configure(settings: LogSettings, stream: TextIO | None = None, *, service: str = "") -> None:
    """Configure logging of this process. Call it once at startup. `service` is added to every line;
    `stream` is standard error by default.
    """
    stream = stream or sys.stderr
    pretty = is_pretty(settings, stream)
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
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(_EXTRA_FIELDS), *shared],
            processors=console_processors(stream) if pretty else _machine(),
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.value.upper())
    hints = KafkaLogHints()
    for name in _REPETITIVE:
        repetitive = logging.getLogger(name)
        repetitive.filters[:] = [hints, RateLimitFilter()]
    for name, level in _NOISY.items():
        noisy = logging.getLogger(name)
        noisy.handlers.clear()
        noisy.propagate = True
        noisy.setLevel(max(level, root.level))
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


def is_pretty(settings: LogSettings, stream: TextIO) -> bool:
    """Whether lines are for people; otherwise they are JSON."""
    return settings.format is LogFormat.PRETTY or (
        settings.format is LogFormat.AUTO and stream.isatty()
    )


class RateLimitFilter(logging.Filter):
    """Passes one line of a kind per `seconds`. The next line has the number of dropped lines in its
    field `suppressed`.

    Each of a hundred Kafka clients logs each failed connection, twenty times a second. While Kafka
    is unreachable, the reason must be visible, and so must other lines.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write this line."""
        text = record.getMessage()
        kind = (record.levelname, text.split(" ", 1)[0])
        passed_at, suppressed = self._seen.get(kind, (float("-inf"), 0))
        if record.created - passed_at < self._seconds:
            self._seen[kind] = (passed_at, suppressed + 1)
            return False
        if len(self._seen) >= KINDS_MAX:
            self._seen.clear()
        self._seen[kind] = (record.created, 0)
        if suppressed:
            record.suppressed = suppressed
        return True


def _machine() -> list[structlog.typing.Processor]:
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        # Tracebacks without local variables, which could contain payloads.
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
