"""The content mode that a Content-Type selects."""

import pytest

from headrace.codec.content_mode import ContentMode, mode
from headrace.domain.event import InvalidEvent, UnsupportedContent


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/json", ContentMode.BINARY),
        (b"text/plain; charset=utf-16", ContentMode.BINARY),
        (b"application/cloudevents+json", ContentMode.STRUCTURED),
        (b"Application/CloudEvents+JSON; charset=UTF-8", ContentMode.STRUCTURED),
        (b'application/cloudevents+json;charset="utf-8"; x=y', ContentMode.STRUCTURED),
        (b"application/cloudevents-batch+json", ContentMode.BATCH),
        (b"application/cloudevents-batch+json;charset=utf-8", ContentMode.BATCH),
    ],
)
def test_the_content_type_decides_the_mode(content_type: bytes, expected: ContentMode) -> None:
    """The comparison ignores case and parameters."""
    assert expected is mode(content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/cloudevents+xml",
        b"application/cloudevents",
        b"application/cloudevents-batch+avro",
        b"application/cloudevents+json;charset=utf-16",
        b"application/cloudevents-batch+json; charset=iso-8859-1",
    ],
)
def test_other_event_formats_are_unsupported(content_type: bytes) -> None:
    """An event format that cannot be read is refused, not passed on as data."""
    with pytest.raises(UnsupportedContent, match="Content-Type"):
        mode(content_type)


@pytest.mark.parametrize(
    "content_type",
    [b"", b"json", b"a/b\xff", b"a/b\x01", b"a/b; x", b"a/b;\tx=y", b"a/b;x=" + b"y" * 8_192],
)
def test_what_is_no_media_type_is_refused(content_type: bytes) -> None:
    """It would become an invalid `datacontenttype`."""
    with pytest.raises(InvalidEvent) as refused:
        mode(content_type)
    assert "datacontenttype" == refused.value.attribute
