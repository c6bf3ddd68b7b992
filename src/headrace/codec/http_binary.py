"""Read an event in HTTP binary mode into a Kafka record: the most performance-critical code.

Producers send the same header names in the same order again and again. Everything that depends only
on the names (which of them are attributes, their names in a record, which checks apply) is computed
once per sequence of names and cached as a `Layout`. A request then costs one lookup, one test of
all values together, and the few checks that its attributes need.

Headers with names that senders may not set (`headrace_…`, `ce-knativebrokerttl`, `ce-headrace…`)
are dropped.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from headrace.codec.content_mode import ContentType
from headrace.codec.passthrough_headers import is_passthrough, passthrough_value
from headrace.codec.percent import PLAIN, decode
from headrace.domain import attributes
from headrace.domain.attributes import Rule
from headrace.domain.bounded_cache import ByteBoundedCache
from headrace.domain.event import InvalidEvent, UnsupportedContent
from headrace.domain.record import Record

HttpHeaders = Sequence[tuple[bytes, bytes]]
"""Header names (lower case) and values."""

_SHORT = attributes.PARTITION_KEY_BYTES_MAX
"""The smallest limit of a single value. If all values together do not exceed it, no value is too
long.
"""
_ARRIVAL_NAME_BYTES = len("ce_knativearrivaltime")
_CHECKED_TOGETHER: Mapping[str, Rule] = {
    "ce_id": attributes.non_empty,
    "ce_type": attributes.non_empty,
    "ce_subject": attributes.non_empty,
    "ce_partitionkey": attributes.partition_key,
}
"""Attributes whose only rules are not to be empty and not to be longer than `_SHORT`: both are
checked for all values together.
"""
_SELDOM_REPEATED = frozenset({"time", "knativearrivaltime"})
_LAYOUTS_BYTES_MAX = 1_572_864
_LAYOUT_BYTES_MAX = 65_536
_LAYOUT_NAME_BYTES = 320
"""Size of a layout per header name, in addition to the name: its positions, its check, its name in
a record.
"""
_REMEMBERED_BYTES_MAX = 262_144
"""Size of the cache of valid values, per attribute."""
_REMEMBERED_VALUE_BYTES_MAX = 256

_Check = tuple[Container[bytes], Callable[[bytes], str | None]]
"""Valid values, and the rule for all others."""
_Fault = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class Layout:
    """What a sequence of header names means.

    Positions are indexes of the request's headers; positions of attributes are indexes of the
    result of `take`.
    """

    names: tuple[str, ...]
    """Record header names of the attributes, in the order of the values that `take` returns."""
    names_bytes: int
    """Their length."""
    take: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]
    content_type: int
    """-1 if there is none."""
    content_encodings: tuple[int, ...]
    carried: tuple[tuple[str, int], ...]
    specversion: int
    partition_key: int
    arrived: bool
    """Whether the event already has an arrival time."""
    plain: bool
    """Whether there are neither content encodings, nor headers that are passed on, nor a fault."""
    checks: tuple[tuple[str, int, *_Check], ...]
    """For version 1.0."""
    older_checks: tuple[tuple[str, int, *_Check], ...]
    """For version 0.3."""
    fault: _Fault | None
    """Why a binary event cannot have these names, or None."""
    attribute_headers: int
    """How many names start with `ce-`, valid or not."""


class Layouts(ByteBoundedCache[tuple[bytes, ...], Layout]):
    """Layouts by header names.

    `layouts[names]` computes a layout that is not cached, and caches it unless the names are too
    long.
    """

    def __missing__(self, names: tuple[bytes, ...]) -> Layout:
        layout = _lay_out(names)
        self.remember(names, layout, 3 * sum(map(len, names)) + _LAYOUT_NAME_BYTES * len(names))
        return layout


layouts = Layouts(bytes_max=_LAYOUTS_BYTES_MAX, entry_bytes_max=_LAYOUT_BYTES_MAX)


def assemble(
    layout: Layout,
    values: tuple[bytes, ...],
    body: bytes,
    arrival: bytes | None,
    content_type: ContentType | None,
) -> Record:
    """Return the record of a message that is in binary mode according to its content type.

    `arrival`, if it is not None, becomes `knativearrivaltime` of an event that has none. Raises
    `InvalidEvent` and `UnsupportedContent`.
    """
    if not layout.plain:
        refuse_encodings(layout, values)
        if layout.fault is not None:
            raise InvalidEvent(*layout.fault)
    taken = layout.take(values)
    joined = b"".join(taken)
    size = len(joined)
    # In the common case, one test of all values together shows that they are short, need no
    # decoding, and are not empty.
    if size > _SHORT or joined.translate(PLAIN) != joined or not all(taken):
        taken = _decode(layout, taken)
        size = sum(map(len, taken))
    size += layout.names_bytes + len(body)
    version = taken[layout.specversion]
    if version == b"1.0":
        checks = layout.checks
    elif version == b"0.3":
        checks = layout.older_checks
    else:
        raise InvalidEvent("specversion", f"must be one of {', '.join(attributes.SPEC_VERSIONS)}")
    for name, position, valid, examine in checks:
        if taken[position] not in valid and (fault := examine(taken[position])) is not None:
            raise InvalidEvent(name, fault)
    fields = list(zip(layout.names, taken))  # noqa: B905 - the same length by construction; `strict` costs 0.15 µs
    if content_type is not None:
        fields.append(content_type.field)
        size += content_type.field_bytes
    if arrival is not None and not layout.arrived:
        fields.append(("ce_knativearrivaltime", arrival))
        size += _ARRIVAL_NAME_BYTES + len(arrival)
    if not layout.plain:
        carried = passthrough_fields(layout, values)
        fields += carried
        size += sum(len(name) + len(value) for name, value in carried)
    key = None
    if layout.partition_key >= 0:
        key = taken[layout.partition_key]
        size += len(key)
    return Record(key, body or None, fields, size)


def passthrough_fields(layout: Layout, values: tuple[bytes, ...]) -> list[tuple[str, bytes]]:
    """Return the headers that are passed on with the event."""
    return [
        (name, value)
        for name, position in layout.carried
        if (value := passthrough_value(values[position])) is not None
    ]


def refuse_encodings(layout: Layout, values: tuple[bytes, ...]) -> None:
    """Raise `UnsupportedContent` for a compressed body.

    Its size would have to be limited twice: before and after decompression.
    """
    for position in layout.content_encodings:
        if values[position].strip(b" \t").lower() not in (b"", b"identity"):
            raise UnsupportedContent(
                "Content-Encoding", "the body as it is (Content-Encoding: identity)"
            )


def _decode(layout: Layout, taken: tuple[bytes, ...]) -> tuple[bytes, ...]:
    decoded = []
    size = 0
    for name, value in zip(layout.names, taken, strict=True):
        if value and value.translate(PLAIN) == value and len(value) <= _SHORT:
            decoded.append(value)
            size += len(name) + len(value)
            continue
        try:
            text = decode(value)
        except ValueError as broken:
            raise InvalidEvent(name[3:], str(broken)) from None
        rule = _CHECKED_TOGETHER.get(name)
        fault = attributes.string_fault(text) or (rule and rule(text))
        if fault is not None:
            raise InvalidEvent(name[3:], fault)
        decoded.append(text.encode())
        size += len(name) + len(decoded[-1])
    if size > attributes.ATTRIBUTES_BYTES_MAX:
        raise InvalidEvent(
            None, f"must have at most {attributes.ATTRIBUTES_BYTES_MAX} bytes of attributes"
        )
    return tuple(decoded)


def _lay_out(names: tuple[bytes, ...]) -> Layout:
    kept: dict[str, int] = {}
    carried: list[tuple[str, int]] = []
    content_types: list[int] = []
    content_encodings: list[int] = []
    faults: list[_Fault] = []
    attribute_headers = 0
    for position, raw in enumerate(names):
        name = raw.decode("latin-1").lower()
        if name.startswith("ce-"):
            attribute_headers += 1
            _keep(kept, name[3:], position, faults)
        elif name == "content-type":
            content_types.append(position)
        elif name == "content-encoding":
            content_encodings.append(position)
        elif is_passthrough(name):
            carried.append((name, position))
    if len(content_types) > 1:
        faults.append(("datacontenttype", "must be given once, in one Content-Type header"))
    faults += [
        (name, attributes.missing(name).rule) for name in attributes.REQUIRED if name not in kept
    ]
    if len(kept) > attributes.ATTRIBUTES_MAX:
        faults.append((None, f"must have at most {attributes.ATTRIBUTES_MAX} attributes"))
    order = {name: position for position, name in enumerate(kept)}
    return Layout(
        names=tuple("ce_" + name for name in kept),
        names_bytes=sum(len("ce_" + name) for name in kept),
        take=_taker(tuple(kept.values())),
        content_type=content_types[0] if content_types else -1,
        content_encodings=tuple(content_encodings),
        carried=tuple(carried),
        specversion=order.get("specversion", -1),
        partition_key=order.get("partitionkey", -1),
        arrived="knativearrivaltime" in order,
        plain=not (content_encodings or carried or faults),
        checks=_checks("1.0", order),
        older_checks=_checks("0.3", order),
        fault=faults[0] if faults else None,
        attribute_headers=attribute_headers,
    )


def _keep(kept: dict[str, int], name: str, position: int, faults: list[_Fault]) -> None:
    if attributes.is_private(name):
        return
    fault = attributes.name_fault(name)
    if fault is not None:
        faults.append((name, fault))
    elif name == "datacontenttype":
        faults.append((name, "must be sent as Content-Type, not as ce-datacontenttype"))
    elif name in kept:
        faults.append((name, "must be given once"))
    else:
        kept[name] = position


def _taker(positions: tuple[int, ...]) -> Callable[[tuple[bytes, ...]], tuple[bytes, ...]]:
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda values: tuple(values[position] for position in positions)


def _checks(specversion: str, order: dict[str, int]) -> tuple[tuple[str, int, *_Check], ...]:
    checks = _CHECKS[specversion]
    return tuple(
        (name, position, *checks[name])
        for name, position in order.items()
        if name in checks and "ce_" + name not in _CHECKED_TOGETHER
    )


def _check(name: str, rule: Rule) -> _Check:
    """Return the rule as a check of bytes.

    Valid values are cached for attributes whose values repeat from event to event.
    """
    if name in _SELDOM_REPEATED:
        return (), lambda value: rule(value.decode())
    good: ByteBoundedCache[bytes, None] = ByteBoundedCache(
        bytes_max=_REMEMBERED_BYTES_MAX, entry_bytes_max=_REMEMBERED_VALUE_BYTES_MAX
    )

    def examine(value: bytes) -> str | None:
        fault = rule(value.decode())
        if fault is None:
            good.remember(value, None, len(value))
        return fault

    return good, examine


_CHECKS = {
    version: {name: _check(name, rule) for name, rule in attributes.rules(version).items()}
    for version in attributes.SPEC_VERSIONS
}
