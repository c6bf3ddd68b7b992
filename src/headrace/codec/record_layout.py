"""What the header names of a stored record mean: the counterpart of `http_binary.Layout`.

Layouts of this kind are used to send events. Record headers also repeat their names from record to
record, so everything that depends only on the names is computed once. Names are compared without
regard to case, although the Kafka binding writes them in lower case. If a name is repeated, the
last value is used, as in Kafka clients.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter

from headrace.codec.passthrough_headers import is_passthrough
from headrace.domain import attributes
from headrace.domain.bounded_cache import ByteBoundedCache
from headrace.domain.record import Headers

MISPLACED = "ce_datacontenttype"
_LAYOUTS_BYTES_MAX = 1_572_864
_LAYOUT_BYTES_MAX = 65_536
_LAYOUT_NAME_BYTES = 320
"""Size of a layout per header name, in addition to the name: its positions, its lines, its name as
an attribute.
"""

Take = Callable[[tuple[bytes, ...]], tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class RecordLayout:
    """Positions in one sequence of record header names."""

    names: tuple[str, ...]
    """Attributes without `datacontenttype`, in the order of the values that `take` returns."""
    take: Take
    content_type: int
    """-1 if there is none."""
    all_names: tuple[str, ...]
    """`names`, and `datacontenttype` if there is a content type."""
    take_all: Take
    lines: bytes
    """HTTP header lines with a placeholder for each value of `take_fields`."""
    take_fields: Take
    """The values of `take`, then those of `take_plain`."""
    take_plain: Take
    """Values that are sent unchanged: content type and passthrough headers."""
    plain_lines: bytes
    """Lines of the passthrough headers alone."""
    take_passthrough: Take
    required: tuple[int, int, int, int]
    """Positions of specversion, id, source and type in the result of `take`."""
    fault: tuple[str, str] | None
    """Why this is not a binary event, as attribute and rule; None if it is one."""
    misplaced: bool = False
    """Whether there is a `ce_datacontenttype` header. It is ignored: the attribute belongs in
    `content-type` (Kafka binding 3.2.1).
    """


class RecordLayouts(ByteBoundedCache[tuple[str, ...], RecordLayout]):
    """Layouts by header names.

    `record_layouts[names]` computes a layout that is not cached, and caches it unless the names are
    too long.
    """

    def __missing__(self, names: tuple[str, ...]) -> RecordLayout:
        layout = _lay_out(names)
        # A layout holds the names up to five times: in lower case, as attributes, and in three byte
        # strings of lines. Text takes up to 4 bytes per character.
        self.remember(names, layout, 8 * sum(map(len, names)) + _LAYOUT_NAME_BYTES * len(names))
        return layout


record_layouts = RecordLayouts(bytes_max=_LAYOUTS_BYTES_MAX, entry_bytes_max=_LAYOUT_BYTES_MAX)


def split(headers: Headers) -> tuple[RecordLayout, tuple[bytes, ...]]:
    """Return what the names of at least one header mean, and the values."""
    names, values = zip(*headers)  # noqa: B905 - each header is a pair
    return record_layouts[names], values


def _lay_out(names: tuple[str, ...]) -> RecordLayout:
    kept: dict[str, int] = {}
    carried: list[tuple[str, int]] = []
    content_type = -1
    fault: tuple[str, str] | None = None
    for position, name in enumerate(map(str.lower, names)):
        if name == "content-type":
            content_type = position
        elif is_passthrough(name):
            carried.append((name, position))
        elif name.startswith("ce_") and not attributes.is_private(name[3:]) and name != MISPLACED:
            rule = attributes.name_fault(name[3:])
            if rule is None:
                kept[name[3:]] = position
            fault = fault or (rule and (name[3:], rule)) or None
    for name in attributes.REQUIRED:
        if name not in kept:
            fault = fault or (name, attributes.missing(name).rule)
    order = {name: position for position, name in enumerate(kept)}
    plain = [("content-type", content_type)] if content_type >= 0 else []
    plain_positions = [position for _, position in plain + carried]
    specversion, id_, source, type_ = (order.get(name, -1) for name in attributes.REQUIRED)
    return RecordLayout(
        names=tuple(kept),
        take=_taker(list(kept.values())),
        content_type=content_type,
        all_names=(*kept, "datacontenttype") if plain else tuple(kept),
        take_all=_taker([*kept.values(), *(position for _, position in plain)]),
        lines=b"".join(b"ce-%b: %%b\r\n" % name.encode() for name in kept)
        + _lines(plain + carried),
        take_fields=_taker([*kept.values(), *plain_positions]),
        take_plain=_taker(plain_positions),
        plain_lines=_lines(carried),
        take_passthrough=_taker([position for _, position in carried]),
        required=(specversion, id_, source, type_),
        fault=fault,
        misplaced=any(name.lower() == MISPLACED for name in names),
    )


def _lines(fields: list[tuple[str, int]]) -> bytes:
    return b"".join(b"%b: %%b\r\n" % name.encode() for name, _ in fields)


def _taker(positions: list[int]) -> Take:
    if len(positions) > 1:
        return itemgetter(*positions)
    if positions:
        (only,) = positions
        return lambda values: (values[only],)
    return lambda values: ()
