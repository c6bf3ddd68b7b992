"""Tables that test whether a value consists of certain bytes only."""

from headrace.codec.byte_tables import allowing


def test_only_allowed_bytes_stay_as_they_are() -> None:
    """Each other byte changes, wherever it is in a value."""
    table = allowing(b"ab\x00\xff")
    for byte in range(256):
        value = b"a%cb" % byte
        assert (value.translate(table) == value) is (byte in b"ab\x00\xff")


def test_an_empty_value_has_no_other_byte() -> None:
    """Callers that refuse it check that themselves."""
    assert b"".translate(allowing(b"a")) == b""
