"""Expensive objects are validated beside the event loop: probes are answered, and the number of
such validations is limited.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from headrace_apiserver.admission.admit import Admitted
from headrace_apiserver.admission.pool import THREADS, AdmissionPool
from headrace_apiserver.schemas import cel
from headrace_apiserver.schemas.cel_process import EvaluationResult, evaluate_in_subprocess
from headrace_apiserver.schemas.loop_budget import (
    LOOP_SECONDS,
    LoopBudgetExceeded,
    is_on_loop,
    on_loop,
)
from headrace_apiserver.schemas.rule_tree import rule_tree
from headrace_apiserver.schemas.rules import broken_rules
from headrace_apiserver.schemas.schema import validate
from headrace_apiserver.statuses import StatusError
from tests.support.wait_until import wait_until
from tests.unit.apiserver.running_api import ApiUnderTest, running_api

GADGETS = "/apis/shop.dev/v1/namespaces/default/gadgets"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
RULE = {"rule": "self.text.matches(self.pattern)"}
SPEC = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "pattern": {"type": "string"}},
    "x-kubernetes-validations": [RULE],
}
EXPENSIVE = {"text": "a" * 75_000, "pattern": "a?" * 37_500 + "b"}
"""About a second of processor time in a process of its own, which then ends it."""


def definition(spec: dict[str, Any]) -> dict[str, Any]:
    """A CRD of Gadgets with this schema of their `spec`."""
    names = {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": schema}]
    return {
        "metadata": {"name": "gadgets.shop.dev"},
        "spec": {"group": "shop.dev", "scope": "Namespaced", "names": names, "versions": versions},
    }


def gadget(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The body of a Gadget."""
    return {"apiVersion": "shop.dev/v1", "kind": "Gadget", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def api() -> Iterator[ApiUnderTest]:
    """A controller that serves Gadgets."""
    with running_api() as api:
        assert 201 == api.call("POST", DEFINITIONS, definition(SPEC))[0]
        wait_until(lambda: 200 == api.call("GET", GADGETS)[0], 10, "Gadgets to be served")
        yield api


def test_probes_are_answered_while_expensive_rules_are_evaluated(
    api: ApiUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several at once: the event loop waits for none of their processes, and other writes pass
    them.

    Probes are answered while the processes are held back, and use little processor time of the
    event loop's thread while they run: neither depends on how busy the machine is.
    """
    held, free = threading.Semaphore(0), threading.Event()

    def evaluated(text: str, **options: Any) -> EvaluationResult:
        held.release()
        assert free.wait(60)
        return evaluate_in_subprocess(text, **options)

    monkeypatch.setattr(cel, "evaluate_in_subprocess", evaluated)
    longest = 0.0
    with ThreadPoolExecutor(6) as pool:
        writes = [
            pool.submit(api.call, "POST", f"{GADGETS}?dryRun=All", gadget(f"g{number}", EXPENSIVE))
            for number in range(6)
        ]
        try:
            for _ in range(THREADS):
                assert held.acquire(timeout=10)
            for _ in range(10):
                assert 200 == api.request("GET", "/livez").status
            cheap = gadget("cheap", {"text": "b", "pattern": "b"})
            assert 201 == api.call("POST", GADGETS, cheap)[0]
            assert not any(write.done() for write in writes)
        finally:
            free.set()
        while not all(write.done() for write in writes):
            begun = loop_seconds()
            assert 200 == api.request("GET", "/livez").status
            longest = max(longest, loop_seconds() - begun)
        # 429: on a slow machine some time out.
        assert {write.result()[0] for write in writes} <= {422, 429}
    assert 422 in {write.result()[0] for write in writes}
    assert longest < 0.75, f"/livez took {longest:.1f} s of processor time"


def loop_seconds() -> float:
    """Processor time of the thread with the event loop of `api`."""
    (thread,) = (each for each in threading.enumerate() if each.name == "controller under test")
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def test_probes_are_answered_while_the_rules_of_a_definition_are_compiled(
    api: ApiUnderTest,
) -> None:
    """As many and as long ones as a definition may have: seconds of compilation."""
    long = ",".join("1" * 7_500)
    rules = [{"rule": f"[{long}].size() == {number}"} for number in range(48)]
    longest = 0.0
    with ThreadPoolExecutor(1) as pool:
        changed = definition({**SPEC, "x-kubernetes-validations": rules})
        started = time.process_time()
        write = pool.submit(api.call, "PUT", f"{DEFINITIONS}/gadgets.shop.dev?dryRun=All", changed)
        while not write.done():
            begun = loop_seconds()
            assert 200 == api.request("GET", "/livez").status
            longest = max(longest, loop_seconds() - begun)
        took = time.process_time() - started
    # 429: on a slow machine the compilation takes longer than a request may wait for it.
    assert write.result()[0] in {200, 429}
    assert longest < took / 2, f"/livez took {longest:.2f} of {took:.2f} s of processor time"


def test_a_potentially_expensive_rule_that_is_fast(api: ApiUnderTest) -> None:
    """Create, replace and apply have the same response as for a cheap rule."""
    spec = {"text": "a" * 40_000, "pattern": "a" * 100}
    assert 201 == api.call("POST", GADGETS, gadget("g", spec))[0]
    assert 200 == api.call("PUT", f"{GADGETS}/g", gadget("g", {**spec, "text": "a" * 40_001}))[0]
    assert 40_001 == len(api.call("GET", f"{GADGETS}/g")[1]["spec"]["text"])
    headers = {"Content-Type": "application/apply-patch+yaml"}
    assert (
        201
        == api.call("PATCH", f"{GADGETS}/h?fieldManager=t", gadget("h", spec), headers=headers)[0]
    )


def test_many_cheap_rules_are_expensive_together() -> None:
    """On the event loop they are stopped early, without a result."""
    items = {"type": "object", "x-kubernetes-validations": [{"rule": "self.a.all(x, x > 0)"}]}
    tree = rule_tree({"type": "object", "properties": {"list": {"type": "array", "items": items}}})
    document = {"list": [{"a": [1] * 200}] * 90}
    begun = time.thread_time()
    with on_loop(), pytest.raises(LoopBudgetExceeded):
        for _ in range(100):
            broken_rules({"list": document["list"] * 10}, tree)
    assert time.thread_time() - begun < 20 * LOOP_SECONDS


def test_expensive_patterns_leave_the_loop() -> None:
    """On the event loop no text is matched against them; in a thread it is."""
    schema = {
        "type": "object",
        "properties": {"text": {"type": "string", "pattern": "^(a?){1000}b$"}},
    }

    def matches(pattern: str, text: str) -> bool:
        assert not is_on_loop()
        return True

    assert [] == validate({"text": "a" * 20_000}, schema, matches=matches)
    with on_loop(), pytest.raises(LoopBudgetExceeded):
        validate({"text": "a" * 20_000}, schema, matches=matches)


class Slow:
    """A validation that takes as long as the test wants."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.begun = 0

    def __call__(self) -> Admitted:
        """Not on the event loop."""
        if is_on_loop():
            raise LoopBudgetExceeded
        self.begun += 1
        self.free.wait(10)
        return Admitted({})


async def test_waiting_validations_are_limited_in_number_and_time() -> None:
    """One runs, one waits for the thread, the third gets 429. One that waits too long gets 429.
    Fast ones are not affected.
    """
    slow, judging = Slow(), AdmissionPool(threads=1, waiting_max=2, seconds=0.1)
    try:
        for _ in range(2):
            with pytest.raises(StatusError, match=r"within 0\.1 s") as late:
                await judging.run(slow)
            assert 429 == late.value.code
        # The second never started, so its slot is free; the first holds one until it ends.
        assert (1, 1) == (len(judging), slow.begun)
        full = AdmissionPool(threads=1, waiting_max=0)
        with pytest.raises(StatusError, match="please try again later") as refused:
            await full.run(slow)
        assert 429 == refused.value.code
        assert (Admitted({}), False) == await judging.run(lambda: Admitted({}))
    finally:
        slow.free.set()
    wait_until(lambda: len(judging) == 0, 10, "the judgement to end")


@pytest.mark.parametrize("change", ["definition", "namespace"])
def test_an_object_is_not_stored_if_its_surroundings_changed(
    api: ApiUnderTest, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Its definition is replaced during the validation, or its namespace is deleted."""
    begun, free = threading.Event(), threading.Event()

    def evaluated(text: str, **_: Any) -> EvaluationResult:
        begun.set()
        free.wait(10)
        return EvaluationResult(value=True, error="", cpu_seconds=0.0)

    monkeypatch.setattr(cel, "evaluate_in_subprocess", evaluated)
    assert 201 == api.call("POST", "/api/v1/namespaces", {"metadata": {"name": "ns"}})[0]
    gadgets = GADGETS.replace("/default/", "/ns/")
    with ThreadPoolExecutor(1) as pool:
        write = pool.submit(
            api.call, "POST", gadgets, gadget("g", {"text": "a" * 40_000, "pattern": "a" * 100})
        )
        try:
            assert begun.wait(10)
            if change == "definition":
                stored = api.call("GET", f"{DEFINITIONS}/gadgets.shop.dev")[1]
                stored["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = {
                    "type": "string"
                }
                assert 200 == api.call("PUT", f"{DEFINITIONS}/gadgets.shop.dev", stored)[0]
            else:
                api.call("DELETE", "/api/v1/namespaces/ns")
                wait_until(
                    lambda: 404 == api.call("GET", "/api/v1/namespaces/ns")[0],
                    10,
                    "the namespace to be gone",
                )
        finally:
            free.set()
        assert (503 if change == "definition" else 404) == write.result()[0]
    assert not api.call("GET", gadgets)[1].get("items")
