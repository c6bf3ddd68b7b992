"""The options of a request, from its query and its body: how to validate, what to select, how to
delete. (pure)

An unknown value is rejected if ignoring it would change the meaning of the request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from headrace.resources.resource_rules import ANY_OBJECT, Precondition
from headrace_apiserver.statuses import bad_request

LIMIT_MAX = 10_000
WATCH_SECONDS_MAX = 3_600.0
VERSION_DIGITS_MAX = 19
"""Digits of a 64 bit number. Python raises an error for thousands of digits."""
_MANAGER_MAX = 128
_TRUE = frozenset(("true", "1", "t", "T", "TRUE", "True", ""))

Query = Mapping[str, str]


class Strictness(StrEnum):
    """What happens to fields that a kind does not have (`fieldValidation`): the object is rejected,
    or they are dropped, with or without a warning.
    """

    STRICT = "Strict"
    WARN = "Warn"
    IGNORE = "Ignore"


class Propagation(StrEnum):
    """What happens to the dependents of a deleted object."""

    BACKGROUND = "Background"
    FOREGROUND = "Foreground"
    ORPHAN = "Orphan"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """Options of a create, replace, patch or apply."""

    dry_run: bool = False
    manager: str = ""
    """The manager of the fields that this write sets."""
    strictness: Strictness = Strictness.WARN
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions:
    """Options of a list or watch."""

    labels: str = ""
    fields: str = ""
    limit: int = 0
    """0 means no limit."""
    token: str = ""
    """The continue token of the previous page."""
    version: str = ""
    match: str = ""
    watch: bool = False
    bookmarks: bool = False
    initial_events: bool | None = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """Options of a delete."""

    dry_run: bool = False
    propagation: Propagation = Propagation.BACKGROUND
    precondition: Precondition = ANY_OBJECT


def is_version(text: str) -> bool:
    """Whether a text can be a resourceVersion: a number of at most 19 digits."""
    return text.isascii() and text.isdecimal() and len(text) <= VERSION_DIGITS_MAX


def asks_to_watch(query: Query) -> bool:
    """Whether a GET is a watch. Middleware and handlers share this function, so that they agree."""
    return _flag(query, "watch")


def read_write_options(query: Query, *, agent: str) -> WriteOptions:
    """Read the options. `agent` is the User-Agent; its first word is the manager if none is named.
    Raises StatusError 400.
    """
    manager = query.get("fieldManager", "") or agent.partition("/")[0].strip() or "unknown"
    if len(manager) > _MANAGER_MAX or not manager.isprintable():
        raise bad_request(f"fieldManager: must be at most {_MANAGER_MAX} printable characters")
    strictness = query.get("fieldValidation") or Strictness.WARN
    if strictness not in list(Strictness):
        raise bad_request(
            f'fieldValidation: Unsupported value: "{strictness[:40]}":'
            ' supported values: "Ignore", "Strict", "Warn"'
        )
    return WriteOptions(
        dry_run=_dry_run(query.get("dryRun")),
        manager=manager,
        strictness=Strictness(strictness),
        force=_flag(query, "force"),
    )


def read_list_options(query: Query) -> ListOptions:
    """Read the options. Raises StatusError 400."""
    seconds = _number(query, "timeoutSeconds")
    initial = None if "sendInitialEvents" not in query else _flag(query, "sendInitialEvents")
    version = query.get("resourceVersion", "")
    if version and not is_version(version):
        raise bad_request(
            f'resourceVersion: Invalid value: "{version[:40]}": it is opaque; send one that a list'
            " or object carried"
        )
    return ListOptions(
        labels=query.get("labelSelector", ""),
        fields=query.get("fieldSelector", ""),
        limit=min(_number(query, "limit"), LIMIT_MAX),
        token=query.get("continue", ""),
        version=version,
        match=query.get("resourceVersionMatch", ""),
        watch=asks_to_watch(query),
        bookmarks=_flag(query, "allowWatchBookmarks"),
        initial_events=initial,
        timeout_seconds=min(float(seconds), WATCH_SECONDS_MAX) if seconds else None,
    )


def read_delete_options(query: Query, body: Mapping[str, Any]) -> DeleteOptions:
    """Read the options from the body, or from the query if the body has none. Raises StatusError
    400.
    """
    policy = body.get("propagationPolicy") or query.get("propagationPolicy") or ""
    if not policy and (
        body.get("orphanDependents") is True or query.get("orphanDependents") == "true"
    ):
        policy = Propagation.ORPHAN
    if policy and policy not in list(Propagation):
        raise bad_request(
            f'propagationPolicy: Unsupported value: "{policy!s:.40}": supported values:'
            ' "Background", "Foreground", "Orphan"'
        )
    wanted = body.get("preconditions")
    wanted = wanted if isinstance(wanted, Mapping) else {}
    uid, version = wanted.get("uid"), wanted.get("resourceVersion")
    dry = body.get("dryRun")
    if isinstance(dry, list):
        dry = ",".join(str(each) for each in dry)
    return DeleteOptions(
        dry_run=_dry_run(dry or query.get("dryRun")),
        propagation=Propagation(policy or Propagation.BACKGROUND),
        precondition=Precondition(
            uid=str(uid) if uid else None, version=str(version) if version else None
        ),
    )


def _dry_run(value: Any) -> bool:
    if value in (None, ""):
        return False
    if value != "All":
        raise bad_request(f'dryRun: Unsupported value: "{value!s:.40}": supported values: "All"')
    return True


def _flag(query: Query, name: str) -> bool:
    value = query.get(name)
    return value is not None and value in _TRUE


def _number(query: Query, name: str) -> int:
    value = query.get(name) or "0"
    if not value.isascii() or not value.isdecimal() or len(value) > 12:
        raise bad_request(
            f'{name}: Invalid value: "{value[:40]}": must be a whole number of 0 or more'
        )
    return int(value)
