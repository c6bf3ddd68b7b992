"""Schemas of event data: what is checked, and what a check says. A library that knows JSON Schema
is behind `SchemaCompiler`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

SCHEMA_BYTES_MAX = 131_072
"""UTF-8 bytes of a schema without unnecessary white space: with everything else it must fit into
one routing record.
"""
SCHEMAS_MAX = 500
"""Schemas of one addressable."""
PATH_SHOWN_MAX = 256
"""Characters of a path that are shown; the names in it are those of a sender."""


class InvalidSchema(ValueError):
    """A schema cannot be used; the message says why, for its author."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Where and why data does not conform to a schema."""

    rule: str
    """The keyword of the schema that the data does not satisfy, such as `minimum`; `json` if the
    data is not JSON, or there is none, `size` if there is too much of it for this schema.
    """
    path: str = ""
    """Location in the data, a JSON pointer (RFC 6901); empty for the whole of it."""
    schema_path: str = ""
    """Location of the keyword in the schema, a JSON pointer."""
    expected: str = ""
    """The value of the keyword, if it is short."""

    def __str__(self) -> str:
        if self.rule == "json":
            return "the data is not JSON"
        expected = f" {self.expected}" if self.expected else ""
        return f"{self.path or 'the data'} does not satisfy {self.rule}{expected}"


class CompiledSchema(Protocol):
    """A schema that data can be checked against."""

    @property
    def text(self) -> str:
        """The schema as JSON without unnecessary white space."""
        ...

    @property
    def data_bytes_max(self) -> int:
        """Larger data violates the rule `size`: a check of it could take too long."""
        ...

    def __call__(self, data: bytes) -> Violation | None:
        """Return the first violation; None if the data conforms. Never raises."""
        ...


SchemaCompiler = Callable[[str], CompiledSchema]
"""Compiles the JSON text of a schema. Raises `InvalidSchema`. Never uses network or files."""
LoadSchemaCompiler = Callable[[], SchemaCompiler]
"""Imports the library. Called when the first schema is needed, so that a process that checks
nothing does not have it in memory.
"""


def json_pointer(segments: list[str | int]) -> str:
    """Return the JSON pointer to a location, truncated if it is long."""
    path = "".join(f"/{str(each).replace('~', '~0').replace('/', '~1')}" for each in segments)
    shown = path if path.isprintable() else repr(path)[1:-1]
    return shown if len(shown) <= PATH_SHOWN_MAX else f"{shown[:PATH_SHOWN_MAX]}…"
