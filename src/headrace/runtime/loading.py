"""Reads settings from the command line (passed by the composition root), then the environment, then
their defaults.

pydantic validates them and uses 14 MiB of memory in a process. So only the command line imports
this module; a service receives the result (`headrace.runtime.exec_settings`).
"""

import dataclasses
import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from headrace.runtime.settings import (
    BadSettings,
    Ge,
    Gt,
    Le,
    MinLen,
    Pattern,
    Settings,
    marks,
    variables,
)

Read = TypeVar("Read", bound=Settings)


def load(kind: type[Read], **given: Any) -> Read:
    """Create settings from the command line values (None: not given), the environment and the
    defaults.

    Raises `BadSettings`, which names every invalid setting.
    """
    environ = _environment()
    sources = _sources(kind, environ)
    values: dict[str, Any] = {field: environ[name] for field, name in sources.items()}
    for field, value in given.items():
        if value is not None:
            sources[field], values[field] = field, value
    try:
        return kind(**dict(_model(kind)(**values)))
    except ValidationError as error:
        raise _invalid(error, sources) from error
    except ValueError as error:
        raise BadSettings(str(error), *_named(str(error), kind)) from error


def set_in(kind: type[Settings]) -> dict[str, str]:
    """Return the environment variable that sets a field, for each field that one sets."""
    return _sources(kind, _environment())


def _environment() -> dict[str, str]:
    """Return what is set. Upper and lower case are equal in the names of variables, and an empty
    variable is not set.
    """
    return {name.upper(): value for name, value in os.environ.items() if value}


def _sources(kind: type[Settings], environ: Mapping[str, str]) -> dict[str, str]:
    return {
        field: name
        for field, names in variables(kind).items()
        if (name := next((each for each in names if each in environ), ""))
    }


def known_variables(kinds: Iterable[type[Settings]]) -> set[str]:
    """Return the environment variables that these settings read."""
    return {name for kind in kinds for names in variables(kind).values() for name in names}


def reject_unknown_variables(
    kinds: Iterable[type[Settings]], environ: Mapping[str, str] = os.environ
) -> None:
    """Raise `BadSettings` for a variable that has the prefix of one of these settings classes and
    that none of them reads: a typo must not be ignored silently.
    """
    kinds = list(kinds)
    known = known_variables(kinds)
    checked = tuple({kind.env_prefix for kind in kinds})
    for name in environ:
        upper = name.upper()
        if upper in known or not upper.startswith(checked):
            continue
        raise unknown_variable(name, known)


def unknown_variable(name: str, known: Iterable[str]) -> BadSettings:
    """Return the error for a variable that nothing reads, with the nearest of the `known` names."""
    close = difflib.get_close_matches(name.upper(), sorted(known), 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return BadSettings(f"environment variable {name} is not a setting of Headrace{hint}", name)


def _model(kind: type[Settings]) -> type[BaseModel]:
    """Return the pydantic model for a settings class."""
    hints = get_type_hints(kind, include_extras=True)
    fields: dict[str, Any] = {
        field.name: (_described(hints[field.name]), field.default)
        for field in dataclasses.fields(kind)
    }
    config = ConfigDict(extra="forbid", validate_default=True)
    return create_model(kind.__name__, __config__=config, **fields)


def _described(hint: Any) -> Any:
    """Add pydantic's form of the limits to an annotation."""
    for mark in marks(hint):
        match mark:
            case Ge():
                hint = Annotated[hint, Field(ge=mark.ge)]
            case Gt():
                hint = Annotated[hint, Field(gt=mark.gt)]
            case Le():
                hint = Annotated[hint, Field(le=mark.le)]
            case MinLen():
                hint = Annotated[hint, Field(min_length=mark.min_length)]
            case Pattern():
                hint = Annotated[hint, Field(pattern=mark.expression)]
    return hint


def _invalid(error: ValidationError, sources: Mapping[str, str]) -> BadSettings:
    """Return the error with one entry per invalid setting: where it was set, and what is wrong.
    Never its value, which may be a secret.
    """
    names, lines = [], []
    for each in error.errors(include_input=False, include_url=False):
        field, *rest = (str(part) for part in each["loc"])
        names.append(sources.get(field, field))
        lines.append(f"{'.'.join((names[-1], *rest))}: {each['msg']}")
    return BadSettings("; ".join(lines), *dict.fromkeys(names))


def _named(message: str, kind: type[Settings]) -> Iterator[str]:
    """Return the variables of these settings that a message about several of them names."""
    known = known_variables((kind,))
    return (word for word in dict.fromkeys(re.findall(r"\w+", message)) if word in known)
