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


class Put(NamedTuple):
    """What shall be stored under a key, and the value of its record; both None to remove."""

    key: ResourceKey
    new: Resource | None
    value: bytes | None


@dataclass(slots=True)
class Write:
    """A request: from what is stored to what shall be, or an error of the rules."""

    key: ResourceKey
    decide: Decide
    answer: "asyncio.Future[Resource | None]"
    taken: bool = False
    """Whether it is being stored: from here on it cannot be taken back."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets when its group is stored: `new`, at the offset of record `place` of the
    group (-1: as it is stored already).
    """

    write: Write
    new: Resource | None
    place: int

    def give(self, offsets: Sequence[int], index: ResourceIndex) -> None:
        """Answer. Without offsets (the group's outcome had to be found out) with what is
        there now.
        """
        if self.write.answer.done():
            return
        if self.new is None or self.place < 0:
            self.write.answer.set_result(self.new)
        elif offsets:
            self.write.answer.set_result(
                self.new.with_metadata(resourceVersion=str(offsets[self.place]))
            )
        else:
            self.write.answer.set_result(index.get(self.write.key))


def decide(group: Sequence[Write], index: ResourceIndex) -> tuple[list[Answer], list[Put]]:
    """Apply the rules one request after the other; a request sees what those before it decided, a
    refused one is answered here.
    """
    answers: list[Answer] = []
    records: list[Put] = []
    newest: dict[ResourceKey, tuple[Resource | None, int]] = {}
    for write in group:
        old, place = newest.get(write.key, (index.get(write.key), -1))
        try:
            new = write.decide(old)
            value = record_value(new) if new is not old else None
        except HeadraceError as error:
            refuse([write], error)
            continue
        if new is not old:
            place = len(records)
            records.append(Put(write.key, new, value))
            newest[write.key] = (
                new.with_metadata(resourceVersion=_PENDING) if new else None,
                place,
            )
        answers.append(Answer(write, new, place))
    return answers, records


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


def refuse(writes: Sequence[Write], error: HeadraceError) -> None:
    """Answer requests with an error."""
    for write in writes:
        if not write.answer.done():
            write.answer.set_exception(error)
