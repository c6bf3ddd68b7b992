"""The JSON event format: what is read, what is refused, and that data keeps its bytes."""

import json

import pytest

from headrace.codec import json_event
from headrace.domain.event import BatchTooLarge, Event, InvalidEvent
from tests.support import event_builders as build

HEAD = b'{"specversion":"1.0","id":"1","source":"/s","type":"t"'


def with_data(data: bytes, media_type: bytes | None = None) -> bytes:
    """Return a valid event with this data."""
    return (
        HEAD
        + (b',"datacontenttype":"' + media_type + b'"' if media_type else b"")
        + b',"data":'
        + data
        + b"}"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"[ 1 ,\t2\n]",
        b'{"b":1,"a":  2}',
        b"1e400",
        b"-0.0",
        b"123456789012345678901234567890",
        b'"text"',
        b'"\\u00fc\\/"',
        b"true",
        b"null",
        '{"ü": "\\ud83d\\ude00 😀"}'.encode(),
        b'"' + b"9" * 5_000 + b'"',
        b"1" * 1_024,
        b"[" * 99 + b"]" * 99,
        b'"' + b"[" * 500 + b'"',
    ],
)
def test_json_data_keeps_its_bytes(data: bytes) -> None:
    """Writing keeps them too.

    Writing also makes an implied content type explicit.
    """
    event = json_event.read(with_data(data))
    assert data == event.data
    assert "application/json" == event.attributes["datacontenttype"]
    assert event == json_event.read(json_event.write(event))


@pytest.mark.parametrize(
    ("media_type", "data", "expected"),
    [
        (b"text/plain", '"ü\\n"'.encode(), "ü\n".encode()),
        (b"text/plain; charset=iso-8859-1", '"ü"'.encode(), b"\xfc"),
        (b"text/plain; charset=us-ascii", b'"a"', b"a"),
        (b"application/octet-stream", b'"a"', b"a"),
        (b"text/plain", b"null", None),
        (b"application/vnd.x+json", b'"a"', b'"a"'),
    ],
)
def test_other_data_is_text_in_its_charset(
    media_type: bytes, data: bytes, expected: bytes | None
) -> None:
    """A string is decoded unless the media type is JSON."""
    assert expected == json_event.read(with_data(data, media_type)).data


@pytest.mark.parametrize(
    ("coded", "expected"), [('"AP8="', b"\x00\xff"), ('""', b""), ("null", None)]
)
def test_base64_data_is_bytes(coded: str, expected: bytes | None) -> None:
    """The event has no media type unless one is given."""
    event = json_event.read(HEAD + b',"data_base64":' + coded.encode() + b"}")
    assert expected == event.data
    assert "datacontenttype" not in event.attributes


@pytest.mark.parametrize("space", [" ", "; ", " ;  "])
def test_white_space_after_the_media_type_is_dropped(space: str) -> None:
    """In binary mode, it is not part of the field value either (RFC 9110, section 5.5)."""
    member = json.dumps(f"text/plain{space}").encode()
    event = json_event.read(HEAD + b',"data":"a","datacontenttype":' + member + b"}")
    assert f"text/plain{space}".rstrip() == event.attributes["datacontenttype"]
    assert b"a" == event.data


def test_attributes_keep_their_types_and_null_is_absent() -> None:
    """Strings, booleans and integers are distinguished; null means unset (section 2.2)."""
    event = json_event.read(HEAD + b',"b":false,"i":-0,"s":"","subject":null,"time":null}')
    assert (
        Event(
            {
                "specversion": "1.0",
                "id": "1",
                "source": "/s",
                "type": "t",
                "b": False,
                "i": 0,
                "s": "",
            }
        )
        == event
    )
    assert event == json_event.read(json_event.write(event))


def test_0_3_carries_binary_data_in_its_own_way() -> None:
    """`datacontentencoding` describes the JSON text, and is removed when the data is decoded."""
    event = json_event.read(
        b'{"specversion":"0.3","id":"1","source":"/s","type":"t","datacontentencoding":"Base64","data":"AP8="}'
    )
    assert (
        Event({"specversion": "0.3", "id": "1", "source": "/s", "type": "t"}, b"\x00\xff") == event
    )
    assert (
        b'{"specversion":"0.3","id":"1","source":"/s","type":"t","datacontentencoding":"base64","data":"AP8="}'
        == json_event.write(event)
    )
    with pytest.raises(InvalidEvent, match="data_base64"):
        json_event.read(
            b'{"specversion":"0.3","id":"1","source":"/s","type":"t","data_base64":"AP8="}'
        )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b"{}",
        HEAD,
        HEAD + b",}",
        HEAD + b"}x",
        HEAD + b"}{}",
        HEAD + b',"a"}',
        HEAD + b',"a":}',
        HEAD + b",1:2}",
        HEAD + b',"a" "b"}',
        HEAD + b"]",
        HEAD.replace(b":", b"=") + b"}",
        b"\xef\xbb\xbf" + HEAD + b"}",
        HEAD + b',"e":"\xff"}',
        HEAD + b',"e":"\xed\xa0\x80"}',
        (HEAD + b"}").decode().encode("utf-16"),
        (HEAD + b"}").decode().encode("utf-16-le"),
        (HEAD + b"}").decode().encode("utf-32"),
        with_data(b"NaN"),
        with_data(b"Infinity"),
        with_data(b"-Infinity"),
        with_data(b"[NaN]"),
        with_data(b"01"),
        with_data(b"1."),
        with_data(b".5"),
        with_data(b"+1"),
        with_data(b"'a'"),
        with_data(b"[1,]"),
        with_data(b'{"a":1,}'),
        with_data(b"// x\n1"),
        with_data(b'"a\nb"'),
        with_data(b'"\x01"'),
        with_data(b'"\\x"'),
        with_data(b"True"),
        with_data(b'"\\ud800"'),
        with_data(b'"\\udc00\\ud800"'),
        with_data(b'["\\ud800x"]'),
        with_data(b'{"\\udfff":1}'),
        with_data(b'"\\u12"'),
        with_data(b'{"a":1,"a":2}'),
        with_data(b'[{"b":{"a":1,"\\u0061":2}}]'),
        with_data(b"1" * 5_000),
        with_data(b"-0." + b"1" * 5_000),
        with_data(b"1e" + b"1" * 5_000),
        with_data(b"[" * 5_000 + b"]" * 5_000),
        with_data(b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
        with_data(b"[" * 100_000),
        with_data(b"[" * 100 + b"]" * 100),
        with_data(b"1", b"text/plain"),
        with_data(b"{}", b"application/xml"),
        with_data(b'"x"', b"text/plain; charset=utf-7"),
        with_data('"ü"'.encode(), b"text/plain; charset=us-ascii"),
    ],
)
def test_what_is_no_strict_json_event_is_refused(text: bytes) -> None:
    """Each text is one that lenient parsers accept or fail on."""
    with pytest.raises(InvalidEvent):
        json_event.read(text)


@pytest.mark.parametrize(
    ("members", "attribute"),
    [
        (b'"data":1,"data_base64":"AA=="', "data"),
        (b'"data":null,"data_base64":null', "data"),
        (b'"data_base64":"A"', "data"),
        (b'"data_base64":"AA"', "data"),
        (b'"data_base64":"AA==AA=="', "data"),
        (b'"data_base64":"A A=="', "data"),
        (b'"data_base64":"_w=="', "data"),
        (b'"data_base64":"\\u00fc"', "data"),
        (b'"data_base64":5', "data"),
        (b'"id":"2"', "id"),
        (b'"\\u0069d":"2"', "id"),
        (b'"e":1,"e":1', "e"),
        (b'"e":1.5', "e"),
        (b'"e":1e3', "e"),
        (b'"e":2147483648', "e"),
        (b'"e":' + b"1" * 400, "e"),
        (b'"e":[]', "e"),
        (b'"e":{}', "e"),
        (b'"E":"x"', "E"),
        (b'"my_ext":"x"', "my_ext"),
        (b'"time":"x"', "time"),
        (b'"datacontenttype":"application/cloudevents+json","data":{}', "datacontenttype"),
        (b'"subject":""', "subject"),
        (b'"e":"\\u0000"', "e"),
        (b'"e":"\\uffff"', "e"),
    ],
)
def test_a_bad_member_is_named(members: bytes, attribute: str) -> None:
    """The error names the attribute."""
    with pytest.raises(InvalidEvent) as refused:
        json_event.read(HEAD + b"," + members + b"}")
    assert attribute == refused.value.attribute


def test_the_number_of_members_is_bounded() -> None:
    """The limit is checked before the members are processed."""
    with pytest.raises(InvalidEvent, match="130 members"):
        json_event.read(HEAD + b"".join(b',"a%d":1' % number for number in range(10_000)) + b"}")


def test_escaped_backslashes_are_no_surrogates() -> None:
    """`\\\\ud800` is a backslash followed by letters."""
    event = json_event.read(HEAD + b',"e":"\\\\ud800","f":"\\ud83d\\ude00","data":"\\\\ud800"}')
    assert ("\\ud800", "😀") == (event.attributes["e"], event.attributes["f"])


def test_depth_counts_nesting_and_not_brackets() -> None:
    """Thousands of siblings, and brackets in strings, do not count as depth."""
    data = b"[" + b",".join([b"[[]]", b'{"a":"]}"}', b'"[\\"["'] * 1_000) + b"]"
    assert data == json_event.read(with_data(data)).data
    for text in (b'"' + b"[" * 200 + b"]" * 200 + b'"', b'["\\\\",' + b"[]," * 200 + b'"\\""]'):
        assert text == json_event.read(with_data(text)).data
    with pytest.raises(InvalidEvent, match="100 levels"):
        json_event.read(with_data(b'["]",' * 200 + b"1" + b"]" * 200))


@pytest.mark.parametrize("depth", [1, 98, 99, 100, 101, 5_000])
def test_what_is_written_can_be_read_again(depth: int) -> None:
    """Data that is nested too deep for an event in a batch is written in base64."""
    event = Event(build.attributes(datacontenttype="application/json"), b"[" * depth + b"]" * depth)
    assert [event] == json_event.read_batch(b"[" + json_event.write(event) + b"]", 1)
    assert (depth <= 98) == (b"data_base64" not in json_event.write(event))


def test_a_batch_is_a_list_of_events() -> None:
    """The events are in order, and the batch may be empty."""
    text = b" [ " + HEAD + b"} ,\n" + with_data(b"1") + b" ] "
    assert [None, b"1"] == [event.data for event in json_event.read_batch(text, 2)]
    assert [] == json_event.read_batch(b"[]", 0)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        (b"[" + HEAD + b'},"x"]', 1),
        (b"[{}]", 0),
        (b"[" + HEAD + b"}," + HEAD + b',"time":1}]', 1),
        (b"[" + HEAD + b"}," + HEAD.replace(b"1.0", b"0.3") + b"}]", 1),
        (b"[" + HEAD + b"}", None),
        (b"[" + HEAD + b"}]]", None),
        (b"[" + HEAD + b"},]", 1),
        (b"[,]", 0),
        (HEAD + b"}", None),
        (b"[]x", None),
    ],
)
def test_a_bad_batch_says_where(text: bytes, index: int | None) -> None:
    """The error has the index of the event, or none if the array itself is invalid."""
    with pytest.raises(InvalidEvent) as refused:
        json_event.read_batch(text, 10)
    assert index == refused.value.index


def test_a_batch_over_its_count_is_not_read_to_the_end() -> None:
    """Text after the limit is not examined."""
    with pytest.raises(BatchTooLarge) as refused:
        json_event.read_batch(b"[" + (HEAD + b"},") * 10 + b"garbage", 10)
    assert 10 == refused.value.events_max


def test_write_gives_compact_json_with_native_types() -> None:
    """The format requires JSON types and UTF-8."""
    written = json_event.write(
        Event(build.attributes(subject="ü", flag=True, count=3, datacontenttype="text/plain"), b"a")
    )
    members = {
        **build.REQUIRED,
        "subject": "ü",
        "flag": True,
        "count": 3,
        "datacontenttype": "text/plain",
        "data": "a",
    }
    assert json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode() == written
