"""Which format a scraper wants: OpenMetrics, or the text format of Prometheus."""

from collections.abc import Mapping
from typing import Final

_OPENMETRICS: Final = b"application/openmetrics-text"
_TEXT: Final = (b"text/plain", b"text/*", b"*/*")


def wants_openmetrics(accept: bytes) -> bool:
    """Return whether the header field Accept asks for OpenMetrics, and not more for the text format
    (RFC 9110, 12.5.1). Versions other than 1 are not written here.
    """
    weights: dict[bytes, float] = {}
    for media_range in accept.lower().split(b","):
        name, *fields = (part.strip() for part in media_range.split(b";"))
        parameters = dict(part.split(b"=", 1) for part in fields if b"=" in part)
        if name != _OPENMETRICS or parameters.get(b"version", b"1").split(b".")[0] == b"1":
            weights[name] = max(weights.get(name, 0.0), _weight(parameters))
    # The first that matches is the most specific one.
    text = next((weights[name] for name in _TEXT if name in weights), 0.0)
    openmetrics = weights.get(_OPENMETRICS, 0.0)
    return openmetrics > 0.0 and openmetrics >= text


def _weight(parameters: Mapping[bytes, bytes]) -> float:
    try:
        weight = float(parameters.get(b"q", b"1"))
    except ValueError:
        return 0.0
    return weight if 0.0 <= weight <= 1.0 else 0.0
