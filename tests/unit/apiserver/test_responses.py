"""Encoding of lists: complete documents, in slices of bounded size that are encoded when they are
requested.
"""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.responses import Response, StreamingResponse

from headrace_apiserver.chunking import CHUNK_BYTES, ChunkedResponses
from headrace_apiserver.responses import Representation, ResponseFormat, ResponseFormatter
from headrace_controller.builtin_crds import load_catalog

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def maps() -> ResponseFormatter:
    """The formatter of ConfigMaps."""
    served = load_catalog().of_path("", "v1", "configmaps")
    assert served is not None
    return ResponseFormatter(served, lambda: NOW)


def config_map(number: int, size: int) -> dict[str, Any]:
    """A ConfigMap with a value of `size` characters."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"m{number}"},
        "data": {"k": "x" * size},
    }


async def parts(response: Response) -> list[bytes]:
    """The parts in which the body of a response is sent."""
    if not isinstance(response, StreamingResponse):
        return [bytes(response.body)]
    return [each async for each in response.body_iterator]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("count", "size", "slices"),
    [
        (0, 0, 1),
        (1, 10, 1),
        (99, 10, 1),
        (100, 10, 2),
        (1_000, 10, 11),
        (40, 20_000, 11),
        (1, 200_000, 2),
    ],
)
@pytest.mark.parametrize(
    "form", [Representation.OBJECT, Representation.TABLE, Representation.PARTIAL_LIST]
)
async def test_lists_are_complete_in_any_number_of_slices(
    maps: ResponseFormatter, form: Representation, count: int, size: int, slices: int
) -> None:
    """All objects in their order, whatever their size. Few and small ones are sent at once with a
    Content-Length.
    """
    objects = [config_map(number, size) for number in range(count)]
    response = maps.list_response(objects, {"resourceVersion": "7"}, ResponseFormat(form))
    found = await parts(response)
    document = json.loads(b"".join(found))
    assert "7" == document["metadata"]["resourceVersion"]
    rows = document["rows"] if form is Representation.TABLE else document["items"]
    names = [
        (each["object"] if form is Representation.TABLE else each)["metadata"]["name"]
        for each in rows
    ]
    assert [f"m{number}" for number in range(count)] == names
    if form is Representation.OBJECT:
        assert objects == rows
        assert slices == len(found)
        assert (slices == 1) is ("content-length" in response.headers)


async def test_a_slice_has_a_limit_of_bytes(maps: ResponseFormatter) -> None:
    """A client that does not read costs one slice and one object, not a hundred objects. What is
    not requested is not encoded.
    """
    objects = [config_map(number, 100_000) for number in range(120)]
    assert 64 * 1024 + 110_000 > max(
        map(
            len, await parts(maps.list_response(objects, {}, ResponseFormat(Representation.OBJECT)))
        )
    )
    seen: list[int] = []

    class Watched(dict[str, Any]):
        def items(self) -> Any:
            seen.append(1)
            return super().items()

    response = maps.list_response(
        [Watched(each) for each in objects], {}, ResponseFormat(Representation.OBJECT)
    )
    assert isinstance(response, StreamingResponse)
    assert 2 >= len(seen)


@pytest.mark.parametrize("more", [True, False])
async def test_large_bodies_are_sent_in_chunks(more: bool) -> None:
    """Each is awaited before the next; together they are the body, and only the last one ends the
    response.
    """
    body = bytes(range(256)) * 1_000

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body, "more_body": more})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    await ChunkedResponses(application)({"type": "http"}, receive, send)
    assert {"type": "http.response.start", "status": 200, "headers": []} == sent[0]
    assert body == b"".join(each["body"] for each in sent[1:])
    assert CHUNK_BYTES == max(len(each["body"]) for each in sent[1:])
    assert [True, True, True, more] == [each["more_body"] for each in sent[1:]]
