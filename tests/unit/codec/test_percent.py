"""Header values of attributes: what is encoded, decoded and refused (HTTP binding 3.1.3.2)."""

import pytest

from headrace.codec import percent


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain-!#$&'()*+,/:;<=>?@[\\]^_`{|}~", b"plain-!#$&'()*+,/:;<=>?@[\\]^_`{|}~"),
        ("Euro € 😀", b"Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ('100% "sure"', b"100%25%20%22sure%22"),
        ("a\r\nb\x00", b"a%0D%0Ab%00"),
        ("", b""),
    ],
)
def test_encode_writes_what_the_binding_names(text: str, expected: bytes) -> None:
    """Space, quote, percent and all but printable ASCII are encoded, with upper-case digits.

    Nothing else is encoded.
    """
    assert expected == percent.encode(text.encode())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        (b"%e2%82%ac", "€"),
        (b"%41%2f", "A/"),
        (b"%2541", "%41"),
        (b"with space", "with space"),
        (b'"quoted \\" and \\\\ text"', 'quoted " and \\ text'),
        (b'"%22"', '"'),
        (b'""', ""),
        (b'in "between"', 'in "between"'),
        ("raw ü".encode(), "raw ü"),
        (b" \tx ", "x"),
    ],
)
def test_decode_reads_every_form_once(value: bytes, expected: str) -> None:
    """A quoted string is decoded first, then one round of percent-encoding.

    Unnecessary encoding and lower-case digits are accepted.
    """
    assert expected == percent.decode(value)


@pytest.mark.parametrize(
    "value",
    [
        b"%C0%A0",
        b"%ff",
        b"\xff",
        b"%ED%A0%80",
        b"%E2%82",
        b"100%",
        b"%4",
        b"%zz",
        b"%+1",
        b"% 41",
        b'"',
        b'"open',
        b'"a" b',
        b'"a\\"',
        b'"a"b"',
    ],
)
def test_decode_refuses_the_rest(value: bytes) -> None:
    """Overlong forms, encoded surrogates, incomplete sequences and invalid digits are refused.

    So are quotes that do not span the value.
    """
    with pytest.raises(ValueError, match=r"must"):
        percent.decode(value)
