"""Status documents, compared with those of kube-apiserver 1.34."""

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.resources.resource import ResourceKind
from headrace_apiserver import statuses
from headrace_apiserver.statuses import StatusCause, StatusError

THING = ResourceKind(
    group="test.dev", version="v1", kind="Thing", plural="things", singular="thing"
)
NAMESPACE = ResourceKind(
    group="",
    version="v1",
    kind="Namespace",
    plural="namespaces",
    singular="namespace",
    namespaced=False,
)
ABOUT = {"name": "a", "group": "test.dev", "kind": "things"}
SIZE = StatusCause(
    "spec.size",
    'Invalid value: "string": spec.size in body must be of type integer: "string"',
    "FieldValueTypeInvalid",
)
RATIO = StatusCause(
    "spec.ratio",
    'Invalid value: "string": spec.ratio in body must be of type number: "string"',
    "FieldValueTypeInvalid",
)
MANAGER = StatusCause(
    "fieldManager", "Required value: is required for apply patch", "FieldValueRequired"
)
CHANGED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)

RECORDED = [
    (statuses.not_found(THING, "a"), 404, "NotFound", 'things.test.dev "a" not found', ABOUT),
    (
        statuses.not_found(NAMESPACE, "none"),
        404,
        "NotFound",
        'namespaces "none" not found',
        {"name": "none", "kind": "namespaces"},
    ),
    (
        statuses.already_exists(THING, "a"),
        409,
        "AlreadyExists",
        'things.test.dev "a" already exists',
        ABOUT,
    ),
    (
        statuses.modified(THING, "a"),
        409,
        "Conflict",
        f'Operation cannot be fulfilled on things.test.dev "a": {CHANGED}',
        ABOUT,
    ),
    (
        statuses.invalid(THING, "a", [SIZE]),
        422,
        "Invalid",
        (
            'Thing.test.dev "a" is invalid: spec.size: Invalid value: "string": spec.size in body'
            ' must be of type integer: "string"'
        ),
        {
            "name": "a",
            "group": "test.dev",
            "kind": "Thing",
            "causes": [{"reason": SIZE.reason, "message": SIZE.message, "field": SIZE.field}],
        },
    ),
    (
        statuses.invalid(THING, "a", [SIZE, RATIO]),
        422,
        "Invalid",
        f'Thing.test.dev "a" is invalid: [spec.size: {SIZE.message}, spec.ratio: {RATIO.message}]',
        {
            "name": "a",
            "group": "test.dev",
            "kind": "Thing",
            "causes": [
                {"reason": each.reason, "message": each.message, "field": each.field}
                for each in (SIZE, RATIO)
            ],
        },
    ),
    (
        statuses.unprocessable("meta.k8s.io", "PatchOptions", [MANAGER]),
        422,
        "Invalid",
        (
            'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for'
            " apply patch"
        ),
        {
            "group": "meta.k8s.io",
            "kind": "PatchOptions",
            "causes": [
                {"reason": MANAGER.reason, "message": MANAGER.message, "field": MANAGER.field}
            ],
        },
    ),
    (
        statuses.unsupported_media_type(
            (
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/apply-patch+yaml",
            )
        ),
        415,
        "UnsupportedMediaType",
        (
            "the body of the request was in an unknown format - accepted media types include:"
            " application/json-patch+json, application/merge-patch+json,"
            " application/apply-patch+yaml"
        ),
        None,
    ),
    (
        statuses.not_acceptable(("application/json", "application/yaml")),
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml",
        None,
    ),
    (
        statuses.method_not_allowed(),
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        {},
    ),
    (
        statuses.expired("too old resource version: 1 (225)"),
        410,
        "Expired",
        "too old resource version: 1 (225)",
        None,
    ),
    (
        statuses.bad_request("name must be provided"),
        400,
        "BadRequest",
        "name must be provided",
        None,
    ),
    (
        statuses.too_large("limit is 1"),
        413,
        "RequestEntityTooLarge",
        "Request entity too large: limit is 1",
        None,
    ),
    (
        statuses.no_such_path(),
        404,
        "NotFound",
        "the server could not find the requested resource",
        {},
    ),
    (statuses.unauthorized(), 401, "Unauthorized", "Unauthorized", None),
]


@pytest.mark.parametrize(("error", "code", "reason", "message", "details"), RECORDED)
def test_failures_are_those_of_a_cluster(
    error: StatusError, code: int, reason: str, message: str, details: Mapping[str, Any] | None
) -> None:
    """Clients branch on and print code, reason, message and details."""
    expected: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
    }
    expected |= {
        "reason": reason,
        **({} if details is None else {"details": details}),
        "code": code,
    }
    assert expected == error.status
    assert (code, reason, message) == (error.code, error.reason, str(error))


def test_a_completed_delete_names_the_object() -> None:
    """By group, plural, name and uid."""
    details = {"name": "a", "group": "test.dev", "kind": "things", "uid": "u"}
    expected = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }
    assert expected == statuses.success(THING, name="a", uid="u")


def test_forbidden_names_the_object_and_the_reason() -> None:
    """With the name, without one, and without a kind."""
    messages = [
        str(statuses.forbidden(kind, name, "no"))
        for kind, name in ((THING, "a"), (THING, ""), (None, ""))
    ]
    assert [
        'things.test.dev "a" is forbidden: no',
        "things.test.dev is forbidden: no",
        "forbidden: no",
    ] == messages


def test_the_same_cause_is_in_the_message_once() -> None:
    """All of them are in the causes."""
    error = statuses.invalid(THING, "a", [StatusCause("", "wrong"), StatusCause("", "wrong")])
    assert ('Thing.test.dev "a" is invalid: wrong', 2) == (
        str(error),
        len(error.status["details"]["causes"]),
    )


def test_names_are_quoted() -> None:
    """A rejected name can contain any character."""
    assert r'things.test.dev "a\"\\" not found' == str(statuses.not_found(THING, 'a"\\'))


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (statuses.unavailable("x"), 1),
        (statuses.timed_out("x"), 1),
        (statuses.outcome_unknown("x"), None),
        (statuses.too_many_requests("x", 7), 7),
        (statuses.internal("x"), None),
        (statuses.not_allowed(THING, "patch"), None),
        (statuses.gone("x"), None),
    ],
)
def test_retry_after(error: StatusError, seconds: int | None) -> None:
    """If the same request may succeed later, the Status says after how many seconds."""
    assert seconds == error.retry_after_seconds
