"""Documents that were sent to a real API server, with its answers: Headrace's answers are exactly
the same.

`validated_documents.json` contains a definition, documents, and the answers of the kube-apiserver
that it names. The order of several causes in an answer is accidental (the server iterates over
maps), so they are compared as a set.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from headrace_apiserver.admission.admit import admit
from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.requests.options import Strictness
from headrace_apiserver.statuses import StatusError

JUDGED: dict[str, Any] = json.loads(
    Path(__file__).with_name("validated_documents.json").read_text(encoding="utf-8")
)
SAMPLE = Catalog([JUDGED["definition"]]).of_path("judge.dev", "v1", "samples")
HEAD = {"apiVersion", "kind", "metadata"}


def _whole(stated: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "s", "namespace": "judge", **(stated.get("metadata") or {})}
    return {"apiVersion": "judge.dev/v1", "kind": "Sample", **stated, "metadata": metadata}


def _sorted(causes: list[dict[str, str]] | None) -> list[tuple[str, str, str]]:
    return sorted((each["field"], each["message"], each["reason"]) for each in causes or ())


@pytest.mark.parametrize("case", JUDGED["cases"], ids=lambda case: str(case["name"]))
def test_answer_is_that_of_the_real_server(case: dict[str, Any]) -> None:
    """Defaults, pruning, warnings, codes, causes and messages are those of kube-apiserver."""
    assert SAMPLE is not None
    answer, old = case["answer"], None
    part = "status" if "status_of" in case else None
    if "old" in case or part:
        old = admit(SAMPLE, _whole(case.get("old") or case["status_of"])).document
    strictness = Strictness(case.get("validation", "Strict"))

    if answer["code"] < 300:
        admitted = admit(
            SAMPLE, _whole(case["doc"]), old=old, strictness=strictness, subresource=part
        )
        left_out = HEAD if part else {*HEAD, "status"}
        assert answer["result"] == {
            name: value for name, value in admitted.document.items() if name not in left_out
        }
        assert answer.get("labels") == (
            admitted.document["metadata"].get("labels") if part else None
        )
        assert answer.get("warnings", []) == [
            f"299 - {json.dumps(text)}" for text in admitted.warnings
        ]
        return
    with pytest.raises(StatusError) as refused:
        admit(SAMPLE, _whole(case["doc"]), old=old, strictness=strictness, subresource=part)
    causes = refused.value.status.get("details", {}).get("causes")
    assert answer["code"] == refused.value.code
    assert _sorted(answer["causes"]) == _sorted(causes)
    if len(causes or ()) < 2:
        assert answer["message"] == str(refused.value)
