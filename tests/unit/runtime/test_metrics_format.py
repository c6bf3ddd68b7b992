"""The format of a scrape follows the header field Accept."""

import pytest

from headrace.runtime.metrics_format import wants_openmetrics

PROMETHEUS_3 = (
    b"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    b"application/openmetrics-text;version=0.0.1;q=0.4,"
    b"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
PROMETHEUS_3_TEXT = (
    b"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (b"", False),
        (b"*/*", False),
        (b"text/html,*/*;q=0.8", False),
        (b"application/openmetrics-text", True),
        (b"Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", True),
        (PROMETHEUS_3, True),
        (PROMETHEUS_3_TEXT, False),
        (b"application/openmetrics-text;q=0.3,text/plain;q=0.7", False),
        (b"application/openmetrics-text;q=0.3,*/*;q=0.7", False),
        (b"application/openmetrics-text,*/*", True),
        (b"application/openmetrics-text;q=0", False),
        (b"application/openmetrics-text;version=0.0.1", False),
        (b"application/openmetrics-text;version=2.0.0,text/plain", False),
        (b"application/openmetrics-text;version=2.0.0,application/openmetrics-text", True),
        (b"application/openmetrics-text;q=nan", False),
        (b"application/openmetrics-text;q=many;;=;", False),
        (b",;=,;q=", False),
    ],
)
def test_openmetrics_is_for_those_who_ask_for_it(accept: bytes, wanted: bool) -> None:
    """In version 1, unless they prefer the text format."""
    assert wanted is wants_openmetrics(accept)
