"""The event of every example payload of GitHub, in both namings."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from headrace.domain.attributes import check, is_timestamp
from headrace_sources.adapters.github_events import (
    CLOUDEVENTS,
    KNATIVE,
    Naming,
    UnknownEventType,
    event_of,
    value_at,
)
from tests.support.github_examples import examples

Payload = Mapping[str, Any]
NOW = "2027-01-15T08:00:00Z"
ORIGIN = "https://github.com/Codertocat/Hello-World"
DELIVERY = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
TABLE: Mapping[str, tuple[Callable[[Payload], Any], str]] = {
    "check_run": (lambda p: p["check_run"]["id"], ""),
    "check_suite": (lambda p: p["check_suite"]["id"], ""),
    "commit_comment": (lambda p: p["comment"]["html_url"].split("/")[-1], ""),
    "issue_comment": (lambda p: p["comment"]["html_url"].split("/")[-1], ""),
    "create": (lambda p: p["ref_type"], "ref"),
    "delete": (lambda p: p["ref_type"], "ref"),
    "deployment": (lambda p: p["deployment"]["id"], ""),
    "deployment_status": (lambda p: p["deployment"]["id"], ""),
    "fork": (lambda p: p["forkee"]["id"], ""),
    "gollum": (lambda p: ",".join(each["page_name"] for each in p["pages"]), ""),
    "installation": (lambda p: p["installation"]["id"], "installation"),
    "installation_repositories": (lambda p: p["installation"]["id"], "installation"),
    "issues": (lambda p: p["issue"]["number"], "label assignee"),
    "label": (lambda p: p["label"]["name"], "label"),
    "member": (lambda p: p["member"]["id"], ""),
    "membership": (lambda p: p["member"]["id"], "scope"),
    "milestone": (lambda p: p["milestone"]["number"], ""),
    "organization": (lambda p: p["action"], ""),
    "org_block": (lambda p: p["action"], ""),
    "page_build": (lambda p: p["id"], ""),
    "ping": (lambda p: p["hook_id"], ""),
    "project": (lambda p: p["action"], ""),
    "project_card": (lambda p: p["action"], ""),
    "project_column": (lambda p: p["action"], ""),
    "public": (lambda p: p["repository"]["id"], ""),
    "watch": (lambda p: p["repository"]["id"], ""),
    "team_add": (lambda p: p["repository"]["id"], ""),
    "repository": (lambda p: p["repository"]["id"], ""),
    "pull_request": (
        lambda p: p["pull_request"]["number"],
        "number label assignee installation",
    ),
    "pull_request_review": (lambda p: p["review"]["id"], "review installation"),
    "pull_request_review_comment": (lambda p: p["comment"]["id"], "installation"),
    "push": (
        lambda p: p["compare"].split("/")[-1],
        "pusher ref created deleted forced installation",
    ),
    "release": (lambda p: p["release"]["tag_name"], "release installation"),
    "repository_vulnerability_alert": (lambda p: p["alert"]["id"], ""),
    "security_advisory": (lambda p: p["security_advisory"]["ghsa_id"], ""),
    "status": (lambda p: p["sha"], "state name context"),
    "team": (lambda p: p["team"]["id"], ""),
}
"""Subject, and the extensions beside owner, repository, sender and, where the payload has one,
action: the table of Knative's adapter.
"""
VALUES: Mapping[str, Callable[[Payload], Any]] = {
    "installation": lambda p: p.get("installation", {}).get("id"),
    "label": lambda p: (p.get("label") or {}).get("name"),
    "assignee": lambda p: (p.get("assignee") or {}).get("login"),
    "review": lambda p: p["review"]["state"],
    "release": lambda p: p["release"]["name"],
    "pusher": lambda p: p["pusher"]["name"],
}
WITHOUT_REPOSITORY = {
    "installation",
    "installation_repositories",
    "repository_vulnerability_alert",
    "security_advisory",
}
OF_AN_ORGANIZATION = {"membership", "organization", "org_block"}


def attributes(name: str, payload: Payload, naming: Naming) -> dict[str, Any]:
    """The attributes of an event, after it was checked."""
    body = json.dumps(payload).encode()
    event = event_of(name, DELIVERY, payload, body, naming=naming, origin=ORIGIN, now=NOW)
    check(event.attributes)
    assert event.data == body
    found = dict(event.attributes)
    assert found.pop("specversion") == "1.0"
    assert found.pop("id") == DELIVERY
    assert found.pop("datacontenttype") == "application/json"
    return found


def expected(name: str, payload: Payload) -> dict[str, Any]:
    """The attributes by the table."""
    subject, extensions = TABLE[name]
    found: dict[str, Any] = {
        "type": f"dev.knative.source.github.{name}",
        "source": ORIGIN,
        "subject": str(subject(payload)),
        "sender": payload.get("sender", {}).get("login"),
        "action": payload.get("action"),
    }
    if name in OF_AN_ORGANIZATION:
        found["owner"] = payload["organization"]["login"]
    elif name not in WITHOUT_REPOSITORY and "repository" in payload:
        found["owner"] = payload["repository"]["owner"]["login"]
        found["repository"] = payload["repository"]["name"]
    for each in extensions.split():
        found[each] = VALUES.get(each, lambda p, each=each: p.get(each))(payload)
    return {each: value for each, value in found.items() if value not in (None, "")}


def test_every_example_of_the_types_that_knative_knows() -> None:
    """Type, source, subject and extensions are those of the table, no more and no less."""
    seen = 0
    for name, payloads in examples().items():
        for payload in payloads if name in TABLE else ():
            found = attributes(name, payload, "knative")
            assert expected(name, payload) == found, name
            seen += 1
    assert seen > 230
    assert set(TABLE) | {
        "integration_installation",
        "integration_installation_repositories",
    } == set(KNATIVE)


def test_every_other_example_is_refused() -> None:
    """As by Knative's adapter."""
    others = {name: found for name, found in examples().items() if name not in TABLE}
    assert others
    for name, payloads in others.items():
        with pytest.raises(UnknownEventType):
            attributes(name, payloads[0], "knative")


def test_the_names_of_a_github_app_before_2018() -> None:
    """They have the payload of today's."""
    [first, *_] = examples()["installation"]
    found = attributes("integration_installation", first, "knative")
    assert found["type"] == "dev.knative.source.github.integration_installation"
    assert found["subject"] == str(first["installation"]["id"])


def test_every_example_with_the_cloudevents_names() -> None:
    """Those that the adapter document does not list too."""
    for name, payloads in examples().items():
        for payload in payloads:
            found = attributes(name, payload, "cloudevents")
            assert found["type"].startswith("com.github."), name
            assert found["source"].startswith(("https://", "http://", "github.com")), name
            assert is_timestamp(found["time"]), name
            assert set(found) <= {"type", "source", "subject", "time"}
            if name in CLOUDEVENTS and CLOUDEVENTS[name].subject and name != "organization":
                assert found["subject"], name


@pytest.mark.parametrize(
    ("name", "type", "source", "subject", "time"),
    [
        (
            "check_run",
            "check_run.created",
            "repository.url",
            "check_run.id",
            "check_run.started_at",
        ),
        ("issues", "issue.edited", "repository.url", "issue.number", "issue.updated_at"),
        ("issue_comment", "issue_comment.created", "issue.url", "comment.id", "comment.updated_at"),
        ("create", "create.tag", "repository.url", "ref", ""),
        ("push", "push", "repository.url", "ref", ""),
        ("fork", "fork", "repository.url", "forkee.url", "forkee.created_at"),
        ("membership", "membership.team.removed", "team.url", "member.login", ""),
        ("public", "public", "repository.owner.url", "repository.name", "repository.updated_at"),
        ("installation", "installation.deleted", "installation.account.url", "installation.id", ""),
        (
            "deployment_status",
            "deployment_status.success",
            "deployment.url",
            "deployment_status.url",
            "deployment_status.updated_at",
        ),
        ("star", "star.created", "repository.url", "", "starred_at"),
        ("workflow_run", "workflow_run.completed", "repository.url", "", ""),
    ],
)
def test_the_cloudevents_names_in_particular(
    name: str, type: str, source: str, subject: str, time: str
) -> None:
    """Rows of the adapter document, and one that it does not have."""
    [payload, *_] = examples()[name]
    found = attributes(name, payload, "cloudevents")
    assert found["type"] == f"com.github.{type}"
    assert found["source"] == value_at(payload, source)
    assert found.get("subject") == (str(value_at(payload, subject)) if subject else None)
    assert found["time"] == (value_at(payload, time) if time else NOW)


def test_a_commit_comment_is_of_its_commit() -> None:
    """The source has both."""
    [payload, *_] = examples()["commit_comment"]
    comment = payload["comment"]
    found = attributes("commit_comment", payload, "cloudevents")
    assert found["source"] == f"{comment['url']}/{comment['commit_id']}"


def test_a_number_of_more_than_32_bits_is_text() -> None:
    """An attribute of the type Integer has 32 bits."""
    assert 2**31 - 1 == value_at({"id": 2**31 - 1}, "id")
    assert str(2**31) == value_at({"id": 2**31}, "id")
    payload = {"installation": {"id": 2**40}, "action": "created", "sender": {"login": "octocat"}}
    assert attributes("installation", payload, "knative")["installation"] == str(2**40)


@pytest.mark.parametrize(
    "payload",
    [{}, {"repository": None}, {"repository": []}, {"sender": "x", "issue": 1, "label": [{}]}],
)
def test_a_payload_without_what_is_expected_is_an_event_all_the_same(payload: Payload) -> None:
    """Its attributes are left out."""
    found = attributes("issues", payload, "knative")
    assert found["type"] == "dev.knative.source.github.issues"
    assert attributes("issues", payload, "cloudevents")["source"] == "github.com"
