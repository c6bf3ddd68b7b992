"""Reads settings from the command line (passed by the composition root), then the environment, then
their defaults.

pydantic reads them and uses 14 MiB of memory in a process. So only the command line imports this
module; a service receives the result (`headrace.runtime.exec_settings`).
"""

import dataclasses
import difflib
import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import AliasChoices, Field, ValidationError, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

from headrace.runtime.settings import BadSettings, Pattern, Settings, Variables

Read = TypeVar("Read", bound=Settings)


def load(kind: type[Read], **given: Any) -> Read:
    """Create settings from the command line values (None: not given), the environment and the
    defaults.

    Raises `BadSettings`, which names every invalid setting.
    """
    try:
        found = _reader(kind)(**{name: value for name, value in given.items() if value is not None})
        return kind(
            **{field.name: getattr(found, field.name) for field in dataclasses.fields(kind)}
        )
    except ValidationError as error:
        raise BadSettings(explain(error)) from error
    except ValueError as error:
        raise BadSettings(str(error)) from error


def _reader(kind: type[Settings]) -> type[BaseSettings]:
    """Return the pydantic model for a settings class."""
    hints = get_type_hints(kind, include_extras=True)
    config = SettingsConfigDict(
        env_prefix=kind.env_prefix, extra="forbid", populate_by_name=True, env_ignore_empty=True
    )
    base = type("Read", (BaseSettings,), {"model_config": config})
    fields: dict[str, Any] = {
        field.name: (hints[field.name], _described(field.name, field.default, hints))
        for field in dataclasses.fields(kind)
    }
    return create_model(kind.__name__, __base__=base, **fields)


def _described(name: str, default: object, hints: Mapping[str, Any]) -> Any:
    """Convert the annotations of a field that pydantic does not know into pydantic's."""
    wanted: dict[str, Any] = {}
    for mark in getattr(hints[name], "__metadata__", ()):
        if isinstance(mark, Pattern):
            wanted["pattern"] = mark.expression
        elif isinstance(mark, Variables):
            wanted["validation_alias"] = AliasChoices(name, *mark.names)
    return Field(default=default, **wanted)


def explain(error: ValidationError) -> str:
    """Return one entry per invalid setting: its name and the error. Never its value, which may be a
    secret.
    """
    lines = []
    for each in error.errors(include_input=False, include_url=False):
        name = ".".join(str(part) for part in each["loc"]) or "settings"
        lines.append(f"{name}: {each['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)


def known_variables(kinds: Iterable[type[Settings]]) -> set[str]:
    """Return the environment variables that these settings read."""
    names = set()
    for kind in kinds:
        hints = get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            names.add((kind.env_prefix + field.name).upper())
            for mark in getattr(hints[field.name], "__metadata__", ()):
                if isinstance(mark, Variables):
                    names.update(mark.names)
    return names


def reject_unknown_variables(
    kinds: Iterable[type[Settings]],
    environ: Mapping[str, str] = os.environ,
    *,
    prefixes: Iterable[str] = (),
) -> None:
    """Raise `BadSettings` for a variable that has the prefix of one of these settings classes and
    that none of them reads: a typo must not be ignored silently.

    `prefixes` adds more prefixes to check.
    """
    kinds = list(kinds)
    known = known_variables(kinds)
    checked = tuple({kind.env_prefix for kind in kinds} | set(prefixes))
    for name in environ:
        upper = name.upper()
        if upper in known or not upper.startswith(checked):
            continue
        close = difflib.get_close_matches(upper, known, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise BadSettings(f"environment variable {name} is not a setting of Headrace{hint}")
