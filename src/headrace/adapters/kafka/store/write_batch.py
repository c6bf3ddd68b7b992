"""What waits to be written to the store, and what becomes of it: requests are decided as one group,
stored whole, and answered.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headrace.codec.objects import InvalidObject, stored_bytes
from headrace.domain.errors import HeadraceError, Unstorable
from headrace.resources.resource import Resource, ResourceKey
from headrace.resources.resource_rules import ResourceIndex

RECORD_BYTES_MAX = 1_000_000
"""Of a record's value, when it is written and when it is read."""
_PENDING = "pending"
"""resourceVersion of what is decided but not stored: equal to no version a client can hold."""

Decide = Callable[[Resource | None], Resource | None]


class PendingRecord(NamedTuple):
    """What shall be stored under a key, and the value of its record; both None to remove."""

    key: ResourceKey
    new: Resource | None
    value: bytes | None


@dataclass(slots=True)
class Write:
    """A request: from what is stored to what shall be, or an error of the rules."""

    key: ResourceKey
    decide: Decide
    response: "asyncio.Future[Resource | None]"
    in_progress: bool = False
    """Whether it is being stored: from here on it cannot be taken back."""


@dataclass(frozen=True, slots=True)
class WriteResponse:
    """What a request gets when its group is stored: `new`, at the offset of record `record_index`
    of the group (-1: as it is stored already).
    """

    write: Write
    new: Resource | None
    record_index: int

    def send(self, offsets: Sequence[int], index: ResourceIndex) -> None:
        """Answer. Without offsets (the group's outcome had to be found out) with what is
        there now.
        """
        if self.write.response.done():
            return
        if self.new is None or self.record_index < 0:
            self.write.response.set_result(self.new)
        elif offsets:
            self.write.response.set_result(
                self.new.with_metadata(resourceVersion=str(offsets[self.record_index]))
            )
        else:
            self.write.response.set_result(index.get(self.write.key))


def decide(
    batch: Sequence[Write], index: ResourceIndex
) -> tuple[list[WriteResponse], list[PendingRecord]]:
    """Apply the rules one request after the other; a request sees what those before it decided, a
    refused one is answered here.
    """
    responses: list[WriteResponse] = []
    records: list[PendingRecord] = []
    newest: dict[ResourceKey, tuple[Resource | None, int]] = {}
    for write in batch:
        old, record_index = newest.get(write.key, (index.get(write.key), -1))
        try:
            new = write.decide(old)
            value = record_value(new) if new is not old else None
        except HeadraceError as error:
            reject([write], error)
            continue
        if new is not old:
            record_index = len(records)
            records.append(PendingRecord(write.key, new, value))
            newest[write.key] = (
                new.with_metadata(resourceVersion=_PENDING) if new else None,
                record_index,
            )
        responses.append(WriteResponse(write, new, record_index))
    return responses, records


def record_value(resource: Resource | None) -> bytes | None:
    """A resource as its record's value; the version is the record's place and not in it.

    Raises Unstorable for one that could not be read back.
    """
    if resource is None:
        return None
    try:
        return stored_bytes(
            resource.with_metadata(resourceVersion=None).object, bytes_max=RECORD_BYTES_MAX
        )
    except InvalidObject as error:
        raise Unstorable(f"the object cannot be stored: {error}") from error


def reject(writes: Sequence[Write], error: HeadraceError) -> None:
    """Answer requests with an error."""
    for write in writes:
        if not write.response.done():
            write.response.set_exception(error)
