"""Decoding of bodies: the cost is proportional to their size, whatever they contain."""

import json
import time
import tracemalloc

import pytest

from headrace.codec.objects import VALUES_MAX
from headrace_apiserver.requests.decoding import parsed_json
from headrace_apiserver.statuses import StatusError


async def test_repeated_fields_are_found_in_linear_time() -> None:
    """A body of the maximum size with the maximum number of names takes a fraction of a second, not
    one second per thousand names.
    """
    fields = ",".join(f'"name{number}":1' for number in range(VALUES_MAX - 10))
    began = time.process_time()
    body = await parsed_json(f'{{{fields},"name7":2,"name5":2}}'.encode())
    assert 1.0 > time.process_time() - began
    assert ("name5", "name7") == body.duplicates
    assert 2 == body.document["name7"]


async def test_replaced_values_count() -> None:
    """A thousand times the same field are a thousand values, though only one is left."""
    text = "{" + ",".join(['"a":0'] * (VALUES_MAX + 1)) + "}"
    with pytest.raises(StatusError, match=f"more than {VALUES_MAX} values") as refused:
        await parsed_json(text.encode())
    assert 400 == refused.value.code


async def test_long_paths_are_cut() -> None:
    """Thousands of paths contain only the start of a long name."""
    inner = {f"n{number}": 1 for number in range(5_000)}
    text = f'{{"a":1,"a":2,"{"x" * 50_000}":{json.dumps(inner)[:-1]},"n1":2}}}}'.encode()
    tracemalloc.start()
    try:
        body = await parsed_json(text)
        assert 20_000_000 > tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ("a", "x" * 300) == body.duplicates


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a":{"b":1,"b":2}}', ("a.b",)),
        (b'{"a":[{"b":1},{"b":1,"b":2}],"c":1,"c":1}', ("a[1].b", "c")),
        (b'[{"a":1,"a":1}]', ("[0].a",)),
        (b'{"a":1}', ()),
        (b'{"":1,"":2}', ("",)),
    ],
)
async def test_duplicate_fields_are_returned_by_path(text: bytes, message: tuple[str, ...]) -> None:
    """In objects and lists; the last value counts."""
    assert message == (await parsed_json(text)).duplicates


async def test_at_most_ten_duplicate_fields_are_returned() -> None:
    """They become part of a warning or an error."""
    text = "{" + ",".join(f'"n{number}":0,"n{number}":1' for number in range(100)) + "}"
    assert 10 == len((await parsed_json(text.encode())).duplicates)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            b'{"a":{"b":[1,%d]}}' % 2**63,
            (
                r"a\.b\[1\]: an integer must be of 64 bits, -9223372036854775808 to"
                r" 9223372036854775807"
            ),
        ),
        (b'{"a":%s}' % (b"9" * 301), "a: an integer must be of 64 bits"),
        (b'{"a":-%s}' % (b"9" * 100_000), "a: an integer must be of 64 bits"),
        (b'{"a":[{"b":1e400}]}', r"a\[0\]\.b: a number must be finite and fit a double"),
        (b'{"a":NaN}', "NaN is not a JSON number"),
        (b'{"a":["\\ud800"]}', r"a\[0\]: half of a character"),
        (b'{"a":{"\\udc00x":1}}', "a: half of a character"),
    ],
)
async def test_values_that_cannot_be_stored_are_rejected(text: bytes, why: str) -> None:
    """With the name of the field. As in Kubernetes, integers have 64 bits, numbers are finite, and
    text is Unicode.
    """
    with pytest.raises(StatusError, match=why) as refused:
        await parsed_json(text)
    assert 400 == refused.value.code


async def test_the_range_of_integers() -> None:
    """The largest and the smallest are accepted, and so is a large number with a fraction or an
    exponent.
    """
    body = await parsed_json(
        b'{"a":[9223372036854775807,-9223372036854775808,1e300,12345678901234567890.5,"\\ud83d\\ude00"]}'
    )
    assert [2**63 - 1, -(2**63), 1e300, 12345678901234567890.5, "😀"] == body.document["a"]
