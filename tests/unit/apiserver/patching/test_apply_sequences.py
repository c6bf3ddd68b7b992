"""Sequences of applies and other writes, with what kube-apiserver 1.34 stored, owned and refused of
each (`apply_sequences.json`).
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from headrace_apiserver.patching.apply import (
    WriteContext,
    applied,
    keep_unchanged_times,
    track_managed_fields,
)
from headrace_apiserver.patching.patch import merged
from headrace_apiserver.statuses import StatusError

RECORDED = json.loads(Path(__file__).with_name("apply_sequences.json").read_text(encoding="utf-8"))
SCHEMA: Mapping[str, Any] = RECORDED["schema"]
Document = dict[str, Any]


def stored(draft: Document, live: Document | None, *, status: bool) -> Document:
    """The object that a store keeps after a write: defaults are set, status and the rest are
    written separately.
    """
    if status:
        owners = draft["metadata"].get("managedFields", [])
        return {
            **(live or {}),
            "status": draft.get("status"),
            "metadata": {**(live or {})["metadata"], "managedFields": owners},
        }
    kept = {name: value for name, value in draft.items() if name != "status"}
    return {**kept, "status": live["status"]} if live is not None and "status" in live else kept


def defaulted(document: Document) -> Document:
    """The defaults of the recorded kind."""
    document = deepcopy(document)
    spec = document.get("spec")
    if isinstance(spec, dict):
        spec.setdefault("mode", "auto")
        for entry in spec.get("two") or ():
            entry.setdefault("protocol", "TCP")
    return document


def written(step: Mapping[str, Any], live: Document | None, moment: int) -> Document:
    """Perform one step as the API does. Raises StatusError."""
    named = {
        **step["document"],
        "metadata": {"name": "seq", **step["document"].get("metadata", {})},
    }
    document = {"apiVersion": "test.dev/v1", "kind": "Thing", **named}
    status = "status" in step["write"]
    write = WriteContext(
        manager=step["manager"],
        api_version="test.dev/v1",
        now=f"2026-01-01T00:00:{moment:02d}Z",
        subresource="status" if status else "",
    )
    if "apply" in step["write"]:
        draft = defaulted(applied(live, document, SCHEMA, write, force=step.get("force", False)))
    else:
        if step["write"] == "merge":
            document = merged(live, document)
        if step["write"] == "status" and live is not None:
            document["metadata"] = {
                name: value for name, value in live["metadata"].items() if name != "managedFields"
            }
        draft = track_managed_fields(live, defaulted(document), SCHEMA, write)
    return keep_unchanged_times(live, stored(draft, live, status=status))


def shown(document: Document) -> Document:
    """The document in the form of the recording."""
    metadata = {
        key: value
        for key, value in document["metadata"].items()
        if key not in ("name", "managedFields") and value not in ({}, [])
    }
    rest = {
        key: value
        for key, value in document.items()
        if key not in ("apiVersion", "kind", "metadata")
    }
    return {**({"metadata": metadata} if metadata else {}), **rest}


def owners_of(document: Document) -> list[Document]:
    """The managers in the form of the recording; their order depends on times, which the recording
    omits.
    """
    entries = document["metadata"].get("managedFields", [])
    return by_name(
        [
            {key: value for key, value in entry.items() if key not in ("time", "fieldsType")}
            for entry in entries
        ]
    )


def by_name(entries: list[Document]) -> list[Document]:
    """Managers in a canonical order."""
    return sorted(entries, key=lambda entry: json.dumps(entry, sort_keys=True))


@pytest.mark.parametrize("sequence", RECORDED["sequences"], ids=lambda sequence: sequence["name"])
def test_writes_end_as_they_do_in_a_cluster(sequence: Mapping[str, Any]) -> None:
    """Objects, managers, refusals and whether anything changed are those of kube-apiserver, step by
    step.
    """
    live: Document | None = None
    for moment, step in enumerate(sequence["steps"]):
        refused = step.get("refused")
        if refused is not None:
            with pytest.raises(StatusError) as caught:
                written(step, live, moment)
            # Errors that Kubernetes reports as internal (500) are the client's here.
            assert (refused["code"] if refused["code"] != 500 else 400, refused["message"]) == (
                caught.value.code,
                str(caught.value),
            )
            causes = caught.value.status.get("details", {}).get("causes", [])
            assert refused.get("causes", []) == sorted(
                causes, key=lambda cause: (cause["field"], cause["message"])
            )
            continue
        new = written(step, live, moment)
        assert step["stored"] == shown(new)
        assert by_name(step["owners"]) == owners_of(new)
        assert step["changed"] is (new != live)
        live = new
