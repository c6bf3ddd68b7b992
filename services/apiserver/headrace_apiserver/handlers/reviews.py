"""Self subject reviews: what the user may do, and who the user is. `kubectl auth can-i` and
`kubectl auth whoami` send them; nothing is stored.

Every authenticated user may do everything, so every answer is yes.
"""

from collections.abc import Callable, Mapping
from typing import Any

from headrace_apiserver.authentication import User

Review = Callable[[Mapping[str, Any], User], dict[str, Any]]

_AUTHORIZATION = "authorization.k8s.io"
_AUTHENTICATION = "authentication.k8s.io"


def _access(document: Mapping[str, Any], user: User) -> dict[str, Any]:
    return {
        "spec": document.get("spec") or {},
        "status": {"allowed": True, "reason": f"{user.name} may do everything here"},
    }


def _rules(document: Mapping[str, Any], user: User) -> dict[str, Any]:
    everything = ["*"]
    status = {
        "resourceRules": [{"verbs": everything, "apiGroups": everything, "resources": everything}],
        "nonResourceRules": [{"verbs": everything, "nonResourceURLs": everything}],
        "incomplete": False,
    }
    return {"spec": document.get("spec") or {}, "status": status}


def _self(document: Mapping[str, Any], user: User) -> dict[str, Any]:
    return {"status": {"userInfo": {"username": user.name, "groups": list(user.groups)}}}


_REVIEWS: Mapping[tuple[str, str], tuple[str, Review]] = {
    (_AUTHORIZATION, "selfsubjectaccessreviews"): ("SelfSubjectAccessReview", _access),
    (_AUTHORIZATION, "selfsubjectrulesreviews"): ("SelfSubjectRulesReview", _rules),
    (_AUTHENTICATION, "selfsubjectreviews"): ("SelfSubjectReview", _self),
}


def is_review(group: str, version: str, plural: str) -> bool:
    """Whether this is the path of a review."""
    return version == "v1" and (group, plural) in _REVIEWS


def review(group: str, plural: str, document: Mapping[str, Any], user: User) -> dict[str, Any]:
    """The review with its status."""
    kind, answer = _REVIEWS[group, plural]
    return {
        "apiVersion": f"{group}/v1",
        "kind": kind,
        "metadata": {"creationTimestamp": None},
        **answer(document, user),
    }
