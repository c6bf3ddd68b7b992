"""The Kubernetes API with resources in Kafka: what survives a restart, what a standby does, and
watches that see every write once.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headrace.resources.kinds import CONFIG_MAP
from headrace.resources.resource import Resource
from headrace_apiserver.controllers.crds import DEFINITION as DEFINITION_KIND
from tests.integration.test_controller import (
    BROKERS,
    KafkaBackends,
    RunningController,
    create_backends,
)
from tests.support.kafka import KafkaUnderTest
from tests.support.wait_until import wait_until_async

pytestmark = pytest.mark.kafka

DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "lamps.example.dev"},
    "spec": {
        "group": "example.dev",
        "scope": "Namespaced",
        "names": {"plural": "lamps", "kind": "Lamp"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
LAMPS = "/apis/example.dev/v1/namespaces/default/lamps"
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def backends(kafka: KafkaUnderTest) -> AsyncIterator[KafkaBackends]:
    """The state of a new installation, emptied afterwards."""
    async with create_backends(kafka) as backends:
        yield backends


async def started(backends: KafkaBackends, *, holder: str = "one") -> RunningController:
    """A controller that is the writer, with its namespaces created."""
    running = RunningController(backends, holder=holder)
    await running.start()
    await wait_until_async(lambda: running.store.epoch is not None, 15, "the controller to write")
    await until(running, "GET", "/api/v1/namespaces/default", 200)
    return running


async def until(
    running: RunningController, method: str, path: str, code: int, body: object = None
) -> dict[str, Any]:
    """Retry until the response has this code."""
    async with asyncio.timeout(15):
        while True:
            got, found = await running.call(method, path, body)
            if got == code:
                return found
            await asyncio.sleep(0.05)


def _is_established(running: RunningController) -> bool:
    conditions = running.store.get(DEFINITION_KIND, "", "lamps.example.dev").status.get(
        "conditions", ()
    )
    return ["True", "True"] == [each["status"] for each in conditions]


async def test_everything_is_stored_after_a_restart(backends: KafkaBackends) -> None:
    """Namespaces, a user's definition and its objects, managers and uids; resource versions
    continue.
    """
    first = await started(backends)
    try:
        await first.call("POST", "/api/v1/namespaces", {"metadata": {"name": "shop"}})
        assert 201 == (await first.call("POST", DEFINITIONS, DEFINITION))[0]
        made = await until(
            first, "POST", LAMPS, 201, {"metadata": {"name": "l"}, "spec": {"watts": 40}}
        )
    finally:
        await first.stop()
    second = await started(backends)
    try:
        assert made == (await second.call("GET", f"{LAMPS}/l"))[1]
        assert 200 == (await second.call("GET", "/api/v1/namespaces/shop"))[0]
        await wait_until_async(
            lambda: _is_established(second), 10, "the definition to say that it is served"
        )
        later = (await second.call("POST", MAPS, {"metadata": {"name": "m"}}))[1]
        assert int(later["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
        assert 200 == (await second.call("DELETE", f"{DEFINITIONS}/lamps.example.dev"))[0]
        await until(second, "GET", f"{LAMPS}/l", 404)
        await until(second, "GET", f"{DEFINITIONS}/lamps.example.dev", 404)
    finally:
        await second.stop()


async def test_resources_without_a_namespace_object_get_one(backends: KafkaBackends) -> None:
    """The writer creates the Namespace of a stored resource."""
    first = await started(backends)
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "m", "namespace": "old"},
    }
    await first.store.create(Resource(CONFIG_MAP, document))
    await first.stop()
    second = await started(backends)
    try:
        await until(second, "GET", "/api/v1/namespaces/old", 200)
    finally:
        await second.stop()


async def test_a_standby_reads_and_watches_but_does_not_write(backends: KafkaBackends) -> None:
    """It answers from its own copy, its watches see the writer's changes, and a write gets a 503
    that contains the writer's name.
    """
    writer = await started(backends)
    standby = RunningController(backends, holder="two")
    await standby.start()
    try:
        assert 201 == (await writer.call("POST", MAPS, {"metadata": {"name": "m"}}))[0]
        found = await until(standby, "GET", f"{MAPS}/m", 200)
        code, status = await standby.call(
            "PUT", f"{MAPS}/m", {"metadata": {"name": "m"}, "data": {"a": "b"}}
        )
        assert (503, "ServiceUnavailable", True) == (
            code,
            status["reason"],
            "controller one is the leader" in status["message"],
        )
        version = found["metadata"]["resourceVersion"]
        reading = asyncio.create_task(
            standby.text(f"{MAPS}?watch=1&timeoutSeconds=2&resourceVersion={version}")
        )
        await writer.call("PUT", f"{MAPS}/m", {"metadata": {"name": "m"}, "data": {"a": "c"}})
        (event,) = [json.loads(line) for line in (await reading).splitlines()]
        assert ("MODIFIED", {"a": "c"}) == (event["type"], event["object"]["data"])
    finally:
        await standby.stop()
        await writer.stop()


async def test_a_watch_sees_every_write_once_and_in_order(backends: KafkaBackends) -> None:
    """Fifty concurrent writes: the watch shows their versions in ascending order, each once."""
    running = await started(backends)
    try:
        version = (await running.call("GET", MAPS))[1]["metadata"]["resourceVersion"]
        reading = asyncio.create_task(
            running.text(f"{MAPS}?watch=1&timeoutSeconds=4&resourceVersion={version}")
        )
        answers = await asyncio.gather(
            *(
                running.call("POST", MAPS, {"metadata": {"name": f"m{number}"}})
                for number in range(50)
            )
        )
        written = sorted(
            int(found["metadata"]["resourceVersion"]) for code, found in answers if code == 201
        )
        seen = [
            int(json.loads(line)["object"]["metadata"]["resourceVersion"])
            for line in (await reading).splitlines()
        ]
        assert (50, written) == (len(written), seen)
    finally:
        await running.stop()


async def test_deleting_a_namespace_deletes_its_brokers(backends: KafkaBackends) -> None:
    """kubectl delete ns: the Broker's topic is deleted by its finalizer, then the namespace."""
    running = await started(backends)
    try:
        await running.make()
        n = backends.namespace
        await running.until_ready(f"{BROKERS.format(n)}/default")
        assert 200 == (await running.call("DELETE", f"/api/v1/namespaces/{n}"))[0]
        code, status = await running.call(
            "POST", BROKERS.format(n), {"metadata": {"name": "new"}, "spec": {}}
        )
        assert code in (403, 404), status
        await until(running, "GET", f"/api/v1/namespaces/{n}", 404)
        assert {} == dict(await backends.admin.describe([backends.topic]))
    finally:
        await running.stop()
