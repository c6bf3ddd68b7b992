"""Secrets: `stringData` becomes `data`, and values that are in files stay out of the store."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from headrace.resources.resource import ResourceKind
from headrace_apiserver.admission.plugin import AdmissionPlugin, Document
from headrace_apiserver.request_scope import RequestScope
from headrace_apiserver.schemas import status_causes
from headrace_apiserver.statuses import invalid

FROM_ANNOTATION = "headrace.dev/data-from"
"""On a Secret: a directory below the controller's directory of secrets. The files in it are the
values.
"""


class SecretData(AdmissionPlugin):
    """Fills in and checks the data of Secrets, as the Kubernetes API server does."""

    def mutate(
        self, scope: RequestScope, draft: Document, before: Mapping[str, Any] | None
    ) -> Document:
        """The Secret with `stringData` merged into `data`. Raises StatusError 422 for a value that
        is not base64, and for any value beside the annotation `headrace.dev/data-from`.
        """
        if (scope.kind.group, scope.kind.plural) != ("", "secrets"):
            return draft
        return _with_data(scope.kind, draft)


def _with_data(kind: ResourceKind, draft: Document) -> Document:
    name = str(draft["metadata"].get("name") or "")
    data, text = draft.get("data"), draft.get("stringData")
    values = dict(data) if isinstance(data, Mapping) else {}
    if isinstance(text, Mapping):
        for key, value in text.items():
            if isinstance(value, str):
                values[key] = base64.b64encode(value.encode()).decode()
        draft = {key: value for key, value in draft.items() if key != "stringData"}
    annotations = draft["metadata"].get("annotations")
    if isinstance(annotations, Mapping) and annotations.get(FROM_ANNOTATION) and values:
        detail = f"leave it out: annotation {FROM_ANNOTATION} says that the values are in files"
        raise invalid(kind, name, [status_causes.forbidden("data", detail)])
    for key, value in values.items():
        if not isinstance(value, str) or not _is_base64(value):
            # The message does not show the value: it is a secret.
            problem = "must be base64; text goes into stringData"
            cause = status_causes.invalid(f"data[{key}]", "<hidden>", problem)
            raise invalid(kind, name, [cause])
    return {**draft, "data": values} if values else draft


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
