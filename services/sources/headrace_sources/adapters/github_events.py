"""The event that a delivery of GitHub becomes: type, source, subject, time and extensions.

There are two namings. `knative` is that of Knative's GitHubSource (eventing-github,
`pkg/common/events.go`): the types that it knows, and no others. `cloudevents` is that of the
CloudEvents project (cloudevents/spec, `adapters/github.md`), with the same scheme for the types
that it does not list.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from headrace.domain.attributes import is_timestamp
from headrace.domain.event import Event, Value
from headrace_sources.source import new_event

Naming = Literal["knative", "cloudevents"]
KNATIVE_TYPE: Final = "dev.knative.source.github."
CLOUDEVENTS_TYPE: Final = "com.github."
_INTEGER_MAX: Final = 2**31 - 1


class UnknownEventType(Exception):
    """The naming has no such type of GitHub events."""


@dataclass(frozen=True, slots=True)
class KnativeRow:
    """What one type of events has beside `owner`, `repository`, `sender` and `action`."""

    subject: str
    """Path of the value in the payload; with a final `/`, the last part of the URL there."""
    extensions: Mapping[str, str] = field(default_factory=dict)
    """Paths by name."""
    organization: bool = False
    """`owner` is the organization."""
    common: bool = True
    """Whether it has `owner` and `repository`."""


_INSTALLATION: Final = {"installation": "installation.id"}
_OF_INSTALLATION: Final = KnativeRow("installation.id", _INSTALLATION, common=False)
_OF_ACTION: Final = KnativeRow("action")
KNATIVE: Final[Mapping[str, KnativeRow]] = {
    "check_run": KnativeRow("check_run.id"),
    "check_suite": KnativeRow("check_suite.id"),
    "commit_comment": KnativeRow("comment.html_url/"),
    "create": KnativeRow("ref_type", {"ref": "ref"}),
    "delete": KnativeRow("ref_type", {"ref": "ref"}),
    "deployment": KnativeRow("deployment.id"),
    "deployment_status": KnativeRow("deployment.id"),
    "fork": KnativeRow("forkee.id"),
    "gollum": KnativeRow("pages.page_name"),
    "installation": _OF_INSTALLATION,
    "installation_repositories": _OF_INSTALLATION,
    "integration_installation": _OF_INSTALLATION,
    "integration_installation_repositories": _OF_INSTALLATION,
    "issue_comment": KnativeRow("comment.html_url/"),
    "issues": KnativeRow("issue.number", {"label": "label.name", "assignee": "assignee.login"}),
    "label": KnativeRow("label.name", {"label": "label.name"}),
    "member": KnativeRow("member.id"),
    "membership": KnativeRow("member.id", {"scope": "scope"}, organization=True),
    "milestone": KnativeRow("milestone.number"),
    "organization": KnativeRow("action", organization=True),
    "org_block": KnativeRow("action", organization=True),
    "page_build": KnativeRow("id"),
    "ping": KnativeRow("hook_id"),
    "project": _OF_ACTION,
    "project_card": _OF_ACTION,
    "project_column": _OF_ACTION,
    "public": KnativeRow("repository.id"),
    "pull_request": KnativeRow(
        "pull_request.number",
        {
            "number": "number",
            "label": "label.name",
            "assignee": "assignee.login",
            **_INSTALLATION,
        },
    ),
    "pull_request_review": KnativeRow("review.id", {"review": "review.state", **_INSTALLATION}),
    "pull_request_review_comment": KnativeRow("comment.id", _INSTALLATION),
    "push": KnativeRow(
        "compare/",
        {
            "pusher": "pusher.name",
            "ref": "ref",
            "created": "created",
            "deleted": "deleted",
            "forced": "forced",
            **_INSTALLATION,
        },
    ),
    "release": KnativeRow("release.tag_name", {"release": "release.name", **_INSTALLATION}),
    "repository": KnativeRow("repository.id"),
    "repository_vulnerability_alert": KnativeRow("alert.id", common=False),
    "security_advisory": KnativeRow("security_advisory.ghsa_id", common=False),
    "status": KnativeRow("sha", {"state": "state", "name": "name", "context": "context"}),
    "team": KnativeRow("team.id"),
    "team_add": KnativeRow("repository.id"),
    "watch": KnativeRow("repository.id"),
}
"""By the value of `X-GitHub-Event`."""


@dataclass(frozen=True, slots=True)
class CloudEventsRow:
    """The attributes of one type of events: paths in the payload, the first that has a value."""

    subject: tuple[str, ...] = ()
    time: tuple[str, ...] = ()
    source: str = "repository.url"
    suffix: tuple[str, ...] = ("action",)
    """What follows the name in the type."""
    name: str = ""
    """In the type, where it is another one than GitHub's."""


def _row(subject: str = "", time: str = "", **more: Any) -> CloudEventsRow:
    return CloudEventsRow(tuple(subject.split()), tuple(time.split()), **more)


_ACCOUNT: Final = "installation.account.url"
_OWNER: Final = "repository.owner.url"
CLOUDEVENTS: Final[Mapping[str, CloudEventsRow]] = {
    "check_run": _row("check_run.id", "check_run.completed_at check_run.started_at"),
    "check_suite": _row("check_suite.id", "check_suite.updated_at"),
    "commit_comment": _row("comment.id", "comment.updated_at", source="comment.url"),
    "create": _row("ref", suffix=("ref_type",)),
    "delete": _row("ref", suffix=("ref_type",)),
    "deploy_key": _row("key.id", "key.deleted_at key.created_at"),
    "deployment": _row("deployment.id", "deployment.updated_at", suffix=()),
    "deployment_status": _row(
        "deployment_status.url",
        "deployment_status.updated_at",
        source="deployment.url",
        suffix=("deployment_status.state",),
    ),
    "fork": _row("forkee.url", "forkee.created_at", suffix=()),
    "github_app_authorization": _row(source="sender.url", suffix=()),
    "gollum": _row(suffix=()),
    "installation": _row("installation.id", source=_ACCOUNT),
    "installation_repositories": _row(
        "installation.id", source=_ACCOUNT, name="installation_repository"
    ),
    "issue_comment": _row("comment.id", "comment.updated_at", source="issue.url"),
    "issues": _row("issue.number", "issue.updated_at", name="issue"),
    "label": _row("label.name"),
    "marketplace_purchase": _row(
        "marketplace_purchase.account.login", "effective_date", source="sender.url"
    ),
    "member": _row("member.login"),
    "membership": _row("member.login", source="team.url", suffix=("scope", "action")),
    "meta": _row("hook_id", "hook.updated_at"),
    "milestone": _row("milestone.number", "milestone.updated_at"),
    "organization": _row("membership.user.login", source="organization.url"),
    "org_block": _row("blocked_user.login", source="organization.url"),
    "page_build": _row("build.url", "build.updated_at", suffix=()),
    "project": _row("project.id", "project.updated_at"),
    "project_card": _row("project_card.id", "project_card.updated_at"),
    "project_column": _row("project_column.id", "project_column.updated_at"),
    "public": _row("repository.name", "repository.updated_at", source=_OWNER, suffix=()),
    "pull_request": _row("number", "pull_request.updated_at"),
    "pull_request_review": _row("review.id", "review.submitted_at", source="pull_request.url"),
    "pull_request_review_comment": _row(
        "comment.id", "pull_request.updated_at", source="pull_request.url"
    ),
    "push": _row("ref", suffix=()),
    "registry_package": _row("registry_package.html_url", "registry_package.updated_at"),
    "release": _row("release.id", "release.published_at release.created_at"),
    "repository": _row("repository.name", "repository.updated_at", source=_OWNER),
    "repository_import": _row("repository.name", "repository.updated_at", source=_OWNER, suffix=()),
    "repository_vulnerability_alert": _row("alert.id"),
    "security_advisory": _row("security_advisory.ghsa_id", "security_advisory.updated_at"),
    "star": _row(time="starred_at"),
    "status": _row("sha", "updated_at", suffix=()),
    "team": _row("team.id"),
    "team_add": _row("team.id", suffix=()),
    "watch": _row(),
}
_SOURCES: Final = ("repository.url", "organization.url", "sender.url")
"""Where a payload does not have the URL that the row names."""


def event_of(
    name: str,
    delivery: str,
    payload: Mapping[str, Any],
    body: bytes,
    *,
    naming: Naming,
    origin: str,
    now: str,
) -> Event:
    """Return the event of a delivery.

    `name` and `delivery` are the headers `X-GitHub-Event` and `X-GitHub-Delivery`, `body` is what
    `payload` was read from, `origin` the URL of the repository or organization for people, `now`
    the time in RFC 3339. Raises `UnknownEventType`.
    """
    if naming == "cloudevents":
        attributes = _cloudevents(name, payload, now)
    else:
        attributes = _knative(name, payload, origin)
    return new_event(
        str(attributes.pop("type")),
        str(attributes.pop("source")),
        body,
        id=delivery,
        content_type="application/json",
        **attributes,
    )


def _knative(name: str, payload: Mapping[str, Any], origin: str) -> dict[str, Value | None]:
    row = KNATIVE.get(name)
    if row is None:
        raise UnknownEventType(name)
    found: dict[str, Value | None] = {}
    if row.common:
        owner = "organization.login" if row.organization else "repository.owner.login"
        found["owner"] = value_at(payload, owner)
        found["repository"] = None if row.organization else value_at(payload, "repository.name")
    found["sender"] = value_at(payload, "sender.login")
    found["action"] = value_at(payload, "action")
    found |= {each: value_at(payload, path) for each, path in row.extensions.items()}
    return {
        **{each: value for each, value in found.items() if value != ""},
        "type": f"{KNATIVE_TYPE}{name}",
        "source": origin,
        "subject": _text_at(payload, row.subject),
    }


def _cloudevents(name: str, payload: Mapping[str, Any], now: str) -> dict[str, Value | None]:
    row = CLOUDEVENTS.get(name, CloudEventsRow())
    suffixes = (_text_at(payload, path) for path in row.suffix)
    times = (_text_at(payload, path) for path in row.time)
    parts = [row.name or name, *(each for each in suffixes if each)]
    return {
        "type": CLOUDEVENTS_TYPE + ".".join(parts),
        "source": _cloudevents_source(name, row, payload),
        "subject": next(filter(None, (_text_at(payload, each) for each in row.subject)), None),
        "time": next((each for each in times if each and is_timestamp(each)), now),
    }


def _cloudevents_source(name: str, row: CloudEventsRow, payload: Mapping[str, Any]) -> str:
    if name == "security_advisory":
        return "github.com"
    found = (_text_at(payload, path) for path in (row.source, *_SOURCES))
    source = next(filter(None, found), None) or "github.com"
    if name == "commit_comment" and (commit := _text_at(payload, "comment.commit_id")):
        return f"{source}/{commit}"
    if name == "marketplace_purchase":
        return source.rpartition("/")[0] or source
    return source


def value_at(payload: Any, path: str) -> Value | None:
    """The value at a path of member names; None if there is none, or it is not one of an attribute.

    On the way through a list, the values of its members are joined by commas.
    """
    found = payload
    for index, part in enumerate(names := path.split(".")):
        if isinstance(found, list):
            rest = ".".join(names[index:])
            return ",".join(str(value_at(each, rest) or "") for each in found)
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, bool | str):
        return found
    if isinstance(found, int):
        # An attribute of the type Integer has 32 bits; GitHub's ids may have more.
        return found if abs(found) <= _INTEGER_MAX else str(found)
    return None


def _text_at(payload: Mapping[str, Any], path: str) -> str | None:
    found = value_at(payload, path.removesuffix("/"))
    if found is None or found == "":
        return None
    text = str(found)
    return text.rstrip("/").rpartition("/")[2] if path.endswith("/") else text
