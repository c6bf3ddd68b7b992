"""Errors in the fields of a manifest, in the wording and format of Knative's validation.

One error reads `message: path1, path2`, with details on the next line. Errors with the same message
and details are merged, with their paths sorted. Several errors are sorted and joined by newlines.
Scripts match these texts, so the format must not change.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldError:
    """One error in one or more fields."""

    message: str
    paths: tuple[str, ...] = ()
    details: str = ""

    @property
    def headline(self) -> str:
        """The message and paths on one line, without the details."""
        return f"{self.message}: {', '.join(self.paths)}" if self.paths else self.message

    def __str__(self) -> str:
        return f"{self.headline}\n{self.details}" if self.details else self.headline

    def under(self, prefix: str) -> "FieldError":
        """Return the same error with `prefix` before each of its paths."""
        return replace(self, paths=tuple(_join(prefix, path) for path in self.paths))


def missing(*paths: str, details: str = "") -> FieldError:
    """A required field is absent or empty."""
    return FieldError("missing field(s)", paths, details)


def disallowed(*paths: str, details: str = "") -> FieldError:
    """A field must not be set."""
    return FieldError("must not set the field(s)", paths, details)


def invalid(value: Any, path: str, details: str = "") -> FieldError:
    """The value of a field is not acceptable."""
    return FieldError(f"invalid value: {value}", (path,), details)


def invalid_key(key: str, path: str, details: str = "") -> FieldError:
    """The key of a map entry is not acceptable."""
    return FieldError(f'invalid key name "{key}"', (path,), details)


def both_given(*paths: str) -> FieldError:
    """Two fields exclude each other."""
    return FieldError("expected exactly one, got both", paths)


def none_given(*paths: str) -> FieldError:
    """One of several fields is needed."""
    return FieldError("expected at least one, got none", paths)


def immutable(subject: str, paths: Sequence[str], difference: str) -> FieldError:
    """A field must not change; `subject` is `fields` or `annotations`, `difference` shows old and
    new.
    """
    return FieldError(f"Immutable {subject} changed (-old +new)", tuple(paths), difference)


def immutable_spec(
    type_name: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[FieldError]:
    """The error of an update that changes these fields of a spec, if it does."""
    changed = differences(type_name, old, new)
    return [immutable("fields", ("spec",), changed)] if changed else []


def differences(
    type_name: str, old: Mapping[str, Any], new: Mapping[str, Any], path: str = ""
) -> str:
    """Old and new values of changed leaves, in the form of Knative's comparison
    (`{v1.BrokerSpec}.Config.Name:` and two lines).
    """
    lines: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        before, after, where = old.get(name), new.get(name), f"{path}.{name[:1].upper()}{name[1:]}"
        if before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines.append(differences(type_name, before, after, where))
        else:
            lines.append(
                f"{{{type_name}}}{where}:\n\t-: {_quoted(before)}\n\t+: {_quoted(after)}\n"
            )
    return "".join(lines)


def _quoted(value: Any) -> str:
    return f'"{value or ""}"' if value is None or isinstance(value, str) else str(value)


def render(errors: Iterable[FieldError]) -> str:
    """Return all errors as one text."""
    merged: dict[tuple[str, str], set[str]] = {}
    for error in errors:
        merged.setdefault((error.message, error.details), set()).update(error.paths)
    return "\n".join(
        str(FieldError(message, tuple(sorted(paths)), details))
        for (message, details), paths in sorted(merged.items())
    )


def _join(prefix: str, path: str) -> str:
    if not path or path.startswith("["):
        return prefix + path
    return f"{prefix}.{path}"
