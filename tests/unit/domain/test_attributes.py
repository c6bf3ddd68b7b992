"""The attribute rules of CloudEvents 1.0 and 0.3, checked on single values."""

import pytest

from headrace.domain import attributes
from headrace.domain.event import InvalidEvent
from tests.support import event_builders as build


@pytest.mark.parametrize("name", ["a", "comexampleextension1", "0", "x" * 64])
def test_names_are_lower_case_letters_and_digits(name: str) -> None:
    """A valid name is accepted."""
    assert attributes.name_fault(name) is None


@pytest.mark.parametrize(
    "name", ["", "A", "my_ext", "my-ext", "my.ext", "data", "ä", "a b", "a\n", "x" * 65]
)
def test_other_names_are_refused(name: str) -> None:
    """An invalid name is reported."""
    assert attributes.name_fault(name) is not None


@pytest.mark.parametrize("text", ["", "plain", "Euro € 😀", "tab-less space", "x" * 8_192, "�"])
def test_strings_may_have_any_character(text: str) -> None:
    """Valid strings, including the empty one, are accepted."""
    assert attributes.string_fault(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "\x00",
        "a\nb",
        "\r",
        "\t",
        "\x1f",
        "\x7f",
        "\x80",
        "\x9f",
        "\ud800",
        "\udfff",
        "\ufdd0",
        "\ufdef",
        "\ufffe",
        "\U0010ffff",
        "\U0001fffe",
    ],
)
def test_strings_have_no_controls_surrogates_or_noncharacters(text: str) -> None:
    """The type system forbids them. They would cause header injection or encoding errors."""
    assert attributes.string_fault("a" + text) is not None


@pytest.mark.parametrize("text", ["x" * 8_193, "€" * 2_731])
def test_strings_are_bounded_in_bytes(text: str) -> None:
    """The limit counts UTF-8 bytes, not characters."""
    assert "8192 bytes" in str(attributes.string_fault(text))


@pytest.mark.parametrize(
    "text",
    [
        "/a/b",
        "#fragment",
        "//authority/path",
        "?q",
        "a",
        "1-555-123-4567",
        "https://github.com/cloudevents",
        "http://[::1]:8080/a",
        "../a:b",
        "mailto:cncf@lists.cncf.io",
        "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
        "arn:aws:s3:::bucket",
        "%41",
        "https://u:p@h:1/?a=b#c",
        "file:///x",
    ],
)
def test_sources_are_uri_references(text: str) -> None:
    """RFC 3986 section 4.1, including relative references."""
    assert attributes.is_uri_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        "a b",
        "1:2",
        "a%zz",
        "%",
        "ü",
        "<a>",
        "http://a:b",
        "http://[::1",
        "a\\b",
        "a#b#c",
        "a\n",
        "{x}",
        '"',
    ],
)
def test_other_sources_are_refused(text: str) -> None:
    """Text that does not match the grammar of RFC 3986 is refused."""
    assert not attributes.is_uri_reference(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a/b", True),
        ("urn:x", True),
        ("a:b#c", True),
        ("/a", False),
        ("", False),
        ("//a", False),
    ],
)
def test_schemas_are_absolute(text: str, expected: bool) -> None:
    """`dataschema` must have a scheme."""
    assert expected == attributes.is_absolute_uri(text)


def test_uri_matching_is_linear() -> None:
    """The longest values, with patterns that cause exponential backtracking, are matched
    quickly.
    """
    for text in (
        "a" * 100_000 + " ",
        "http://" + "a:" * 50_000 + " ",
        "x:" + "%" * 100_000,
        "//" + "@" * 100_000,
        "a/" * 50_000 + "\\",
    ):
        assert not attributes.is_uri_reference(text)
    assert not attributes.is_media_type("a/b" + "; " * 50_000 + "x")


@pytest.mark.parametrize(
    "text",
    [
        "2018-04-05T17:31:00Z",
        "2018-04-05T17:31:00.000000000Z",
        "2018-04-05T18:31:00+01:00",
        "2018-04-05t16:31:00-01:00",
        "2020-02-29T00:00:00z",
        "2000-02-29T00:00:00Z",
        "2016-12-31T23:59:60Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999+23:59",
    ],
)
def test_times_are_rfc_3339(text: str) -> None:
    """Any fraction, any offset, upper and lower case, leap days and leap seconds."""
    assert attributes.is_timestamp(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lunchtime",
        "2018-04-05",
        "2018-04-05T18:31Z",
        "2018-04-05T18:31:00",
        "2018-04-05T18:31:00X",
        "2018-04-05T18:31:00+25:00",
        "2018-04-05 18:31:00Z",
        "2018-04-05T18:31:00+xx:00",
        "2018-04-05T18:31:00+05",
        "2018-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2018-04-31T00:00:00Z",
        "2018-13-01T00:00:00Z",
        "2018-04-00T00:00:00Z",
        "2018-04-05T24:00:00Z",
        "2018-04-05T18:60:00Z",
        "2018-04-05T18:31:61Z",
        "2018-04-05T18:31:00.Z",
        "2018-04-05T18:31:00Z\n",
        "٢٠١٨-04-05T18:31:00Z",
        "18-04-05T18:31:00Z",
    ],
)
def test_other_times_are_refused(text: str) -> None:
    """Values close to RFC 3339 are refused."""
    assert not attributes.is_timestamp(text)


@pytest.mark.parametrize(
    "text",
    [
        "application/json",
        "text/plain; charset=utf-8",
        'a/b;x="y \\" z"',
        "application/vnd.a.b+json;v=1 ; w=2",
        "a/b;",
        "TEXT/XML",
    ],
)
def test_media_types_have_type_and_subtype(text: str) -> None:
    """RFC 2046, with parameters."""
    assert attributes.is_media_type(text)


@pytest.mark.parametrize(
    "text",
    ["", "xyz", "a/", "/b", "a/b/c", "a b/c", "a/b; x", 'a/b; x="', "a/b\n", "a/b; x=y z", "a/ö"],
)
def test_other_media_types_are_refused(text: str) -> None:
    """A media type that consumers cannot parse is refused on receipt."""
    assert not attributes.is_media_type(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("application/json", True),
        ("text/JSON; charset=utf-8", True),
        ("application/vnd.x+json", True),
        ("application/jsonl", False),
        ("text/plain", False),
    ],
)
def test_json_is_recognised_by_the_subtype(text: str, expected: bool) -> None:
    """`*/json` and `*/*+json`, ignoring parameters."""
    assert expected == attributes.is_json(text)


@pytest.mark.parametrize("name", ["id", "source", "specversion", "type"])
@pytest.mark.parametrize("value", [None, ""])
def test_required_attributes_are_there_and_not_empty(name: str, value: str | None) -> None:
    """The error names the attribute."""
    with pytest.raises(InvalidEvent, match=name) as refused:
        attributes.check(build.attributes(**{name: value}))
    assert name == refused.value.attribute


@pytest.mark.parametrize("value", ["1.1", "2.0", "0.2", " 1.0", "1.0 ", "1", "v1.0", 1, True])
def test_only_1_0_and_0_3_are_spoken(value: str | int) -> None:
    """Another version may define attributes differently."""
    with pytest.raises(InvalidEvent) as refused:
        attributes.check(build.attributes(specversion=value))
    assert "specversion" == refused.value.attribute


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("subject", ""),
        ("dataschema", ""),
        ("dataschema", "/relative"),
        ("time", "now"),
        ("time", 5),
        ("datacontenttype", ""),
        ("datacontenttype", "xyz"),
        ("datacontenttype", "Application/CloudEvents+json"),
        ("partitionkey", ""),
        ("partitionkey", "k" * 1_025),
        ("partitionkey", "€" * 400),
        ("knativearrivaltime", "x"),
        ("id", 25),
        ("source", "a b"),
        ("My", "x"),
        ("data", "x"),
        ("ext", 2**31),
        ("ext", -(2**31) - 1),
        ("ext", "a\nb"),
        ("ext", "x" * 8_193),
        ("type", "\ud800"),
    ],
)
def test_one_bad_attribute_makes_no_event(name: str, value: str | int) -> None:
    """The error names the attribute and does not repeat the value."""
    with pytest.raises(InvalidEvent) as refused:
        attributes.check(build.attributes(**{name: value}))
    assert name == refused.value.attribute
    assert isinstance(value, int) or len(value) < 4 or value not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"ext": 2**31 - 1},
        {"ext": -(2**31)},
        {"ext": True},
        {"ext": ""},
        {"partitionkey": "k" * 1_024},
        {"subject": " "},
    ],
)
def test_edges_are_inside(changes: dict[str, str | int]) -> None:
    """Values exactly at the limits are valid, and so is an empty extension."""
    attributes.check(build.attributes(**changes))


def test_0_3_has_its_own_attributes() -> None:
    """In 0.3 `schemaurl` may be relative, `datacontentencoding` is checked, and `dataschema` is an
    ordinary extension.
    """
    attributes.check(
        build.attributes(
            specversion="0.3",
            schemaurl="/schema",
            datacontentencoding="base64",
            dataschema="not absolute",
        )
    )
    with pytest.raises(InvalidEvent, match="schemaurl"):
        attributes.check(build.attributes(specversion="0.3", schemaurl="a b"))
    with pytest.raises(InvalidEvent, match="datacontentencoding"):
        attributes.check(build.attributes(specversion="0.3", datacontentencoding="base 64"))


def test_attributes_are_bounded_in_number_and_bytes() -> None:
    """An event that consists of attributes only must still fit into the headers of a request."""
    with pytest.raises(InvalidEvent, match="128 attributes"):
        attributes.check(build.attributes(**{f"a{number}": "x" for number in range(125)}))
    with pytest.raises(InvalidEvent, match="65536 bytes"):
        attributes.check(build.attributes(**{f"a{number}": "x" * 8_000 for number in range(9)}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, "true"), (False, "false"), (1, "1"), (-5, "-5"), (0, "0"), ("x", "x")],
)
def test_values_have_canonical_strings(value: str | int, expected: str) -> None:
    """Booleans and integers are sent as text in headers."""
    assert expected == attributes.canonical(value)


def test_a_fault_of_a_batch_says_where() -> None:
    """The index is an attribute of the error and part of its text."""
    fault = InvalidEvent("time", "must be a time").at(3)
    assert 3 == fault.index
    assert "event 3 of the batch: attribute 'time' must be a time" == str(fault)
