"""What is compared between both versions: the API, Kafka, and the addresses that `headrace up`
prints.

Nothing of the product is imported: its current names must not matter.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import urllib3
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    ResourceType,
)

SECONDS = 20.0
Object = dict[str, Any]
Offsets = dict[str, dict[str, int]]
"""Committed offset by group and `topic/partition`."""

LISTS: Mapping[str, str] = {
    "Broker": "/apis/eventing.knative.dev/v1/brokers",
    "Trigger": "/apis/eventing.knative.dev/v1/triggers",
    "EventType": "/apis/eventing.knative.dev/v1beta2/eventtypes",
    "Namespace": "/api/v1/namespaces",
    "ConfigMap": "/api/v1/configmaps",
    "Secret": "/api/v1/secrets",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "Mailbox": "/apis/example.com/v1/mailboxes",
}
"""The collection path of a kind."""
OF_THE_TOPIC = 1
"""Source of a setting that was set for this topic (`ConfigSource.DYNAMIC_TOPIC_CONFIG`)."""
ROUTING, RESOURCES = "headrace.routing", "headrace.resources"


def address(output: str, what: str) -> str:
    """What `headrace up` printed below this heading."""
    found = re.search(rf"^ *{re.escape(what)} +(?:https?://)?([^\s,/]+)", output, re.MULTILINE)
    assert found is not None, output
    return found.group(1)


class Api:
    """The controller's API."""

    def __init__(self, host: str) -> None:
        self._url = f"http://{host}"
        self._pool = urllib3.PoolManager(retries=False, timeout=SECONDS)

    def close(self) -> None:
        """Close its connections."""
        self._pool.clear()

    def objects(self) -> dict[str, Object]:
        """Every object of the compared kinds, by `Kind namespace/name`."""
        found = {}
        for kind, path in LISTS.items():
            for each in self._call("GET", path)["items"]:
                metadata = each["metadata"]
                found[f"{kind} {metadata.get('namespace', '')}/{metadata['name']}"] = each
        return found

    def apply(self, manifest: Object) -> Object:
        """Server-side apply, as the manager `upgrade`."""
        kind = "application/apply-patch+yaml"
        return self._call("PATCH", f"{_path(manifest)}?fieldManager=upgrade", manifest, kind)

    def merge(self, manifest: Object, *, subresource: str = "") -> Object:
        """Change the given fields."""
        kind = "application/merge-patch+json"
        return self._call("PATCH", f"{_path(manifest)}{subresource}", manifest, kind)

    def delete(self, manifest: Object) -> None:
        """Delete it."""
        self._call("DELETE", _path(manifest))

    def get(self, manifest: Object) -> Object | None:
        """The object, None if it does not exist."""
        answer = self._pool.request("GET", self._url + _path(manifest))
        assert answer.status in (200, 404), answer.data
        return answer.json() if answer.status == 200 else None

    def _call(self, method: str, path: str, body: object = None, kind: str = "") -> Object:
        headers = {"content-type": kind} if kind else {}
        data = None if body is None else json.dumps(body).encode()
        answer = self._pool.request(method, self._url + path, body=data, headers=headers)
        assert answer.status in (200, 201, 202), f"{method} {path}: {answer.status} {answer.data!r}"
        found: Object = answer.json()
        return found


def _path(manifest: Object) -> str:
    metadata = manifest["metadata"]
    base, _, plural = LISTS[manifest["kind"]].rpartition("/")
    namespace = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{base}{namespace}/{plural}/{metadata['name']}"


def ready(thing: Object) -> bool:
    """Whether the latest generation is Ready, for kinds that have the condition."""
    if thing["kind"] not in ("Broker", "Trigger"):
        return True
    status = thing.get("status", {})
    states = {each["type"]: each["status"] for each in status.get("conditions", [])}
    newest = status.get("observedGeneration") == thing["metadata"]["generation"]
    return newest and states.get("Ready") == "True"


def send(ingress: str, broker: str, event: str, kind: str, *, key: str = "") -> None:
    """Post an event with this id to `namespace/name`; it is stored on return."""
    headers = {"ce-specversion": "1.0", "ce-id": event, "ce-source": "/upgrade", "ce-type": kind}
    headers |= {"ce-partitionkey": key} if key else {}
    headers["content-type"] = "application/json"
    with urllib3.PoolManager(retries=False, timeout=SECONDS) as pool:
        body = json.dumps({"event": event}).encode()
        answer = pool.request("POST", f"http://{ingress}/{broker}", body=body, headers=headers)
    assert answer.status == 202, f"{event}: {answer.status} {answer.data!r}"


class KafkaView:
    """What is stored in Kafka."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})

    def topics(self) -> dict[str, Object]:
        """Id, number of partitions and settings of every topic except Kafka's own."""
        listed = self._admin.list_topics(timeout=SECONDS).topics
        names = [name for name in listed if not name.startswith("__")]
        described = self._admin.describe_topics(TopicCollection(names), request_timeout=SECONDS)
        asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        settings = self._admin.describe_configs(asked, request_timeout=SECONDS)
        found = {}
        for resource, future in settings.items():
            topic = described[resource.name].result(SECONDS)
            own = [each for each in future.result(SECONDS).values() if each.source == OF_THE_TOPIC]
            found[resource.name] = {
                "id": str(topic.topic_id),
                "partitions": len(topic.partitions),
                "settings": {each.name: each.value for each in own},
            }
        return found

    def groups(self) -> dict[str, dict[str, tuple[int, str]]]:
        """Committed offset and its metadata by group and `topic/partition`."""
        listed = self._admin.list_consumer_groups(request_timeout=SECONDS).result(SECONDS)
        found = {}
        for group in sorted(each.group_id for each in listed.valid):
            asked = [ConsumerGroupTopicPartitions(group)]
            futures = self._admin.list_consumer_group_offsets(asked, request_timeout=SECONDS)
            offsets = futures[group].result(SECONDS).topic_partitions
            committed = [each for each in offsets if each.offset >= 0]
            places = [f"{each.topic}/{each.partition}" for each in committed]
            values = [(each.offset, each.metadata or "") for each in committed]
            found[group] = dict(zip(places, values, strict=True))
        return found

    def ends(self, places: Iterable[str]) -> dict[str, int]:
        """End offset of each `topic/partition`."""
        with _Reading(self._servers) as consumer:
            asked = {place: _partition(place) for place in places}
            ask = partial(consumer.get_watermark_offsets, timeout=SECONDS)
            return {place: ask(partition)[1] for place, partition in asked.items()}

    def table(self, topic: str) -> dict[str, bytes]:
        """The latest value of each key of a compacted topic; deleted ones are left out."""
        found: dict[str, bytes | None] = {}
        place = TopicPartition(topic, 0, OFFSET_BEGINNING)
        with _Reading(self._servers) as consumer:
            _, end = consumer.get_watermark_offsets(place, timeout=SECONDS)
            consumer.assign([place])
            while end > 0:
                message = consumer.poll(SECONDS)
                assert message is not None, f"{topic} was not read to {end} within {SECONDS} s"
                if message.error() is None:
                    found[(message.key() or b"").decode()] = message.value()
                if consumer.position([place])[0].offset >= end:
                    break
        return {key: value for key, value in found.items() if value is not None}


class _Reading:
    """A consumer without a group."""

    def __init__(self, servers: str) -> None:
        settings = {
            "bootstrap.servers": servers,
            "group.id": "-",
            "enable.auto.commit": False,
            "log_level": 0,
        }
        self._consumer = Consumer({**settings, "enable.partition.eof": True})

    def __enter__(self) -> Consumer:
        return self._consumer

    def __exit__(self, *_: object) -> None:
        self._consumer.close()


def _partition(place: str) -> TopicPartition:
    topic, _, number = place.rpartition("/")
    return TopicPartition(topic, int(number))


def described(thing: Object) -> Object:
    """What of an object must stay the same, and its `resourceVersion`, which only grows."""
    kept = {name: value for name, value in thing.items() if name not in ("metadata", "status")}
    metadata = dict(thing["metadata"])
    managed = metadata.pop("managedFields", [])
    if thing["kind"] == "CustomResourceDefinition" and thing["spec"]["group"] != "example.com":
        kept = {"kind": thing["kind"]}  # Headrace includes it, and may include a newer one.
        metadata = {name: metadata[name] for name in ("name", "uid", "resourceVersion")}
    own = [each for each in managed if each["manager"] == "upgrade"]
    kept["metadata"] = metadata
    kept["managed"] = [each for each in own if "subresource" not in each]
    return kept


def internal(table: Mapping[str, bytes]) -> dict[str, Object]:
    """The controller's own records among the resources."""
    return {key: json.loads(value) for key, value in table.items() if key.startswith("internal.")}


def lost(before: object, after: object, *, but: Collection[str] = (), at: str = "") -> list[str]:
    """Members of `before` that `after` lacks, or that differ; additions do not count, those to an
    empty list included, nor `but`.
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        kept = {name: value for name, value in before.items() if name not in but}
        gone = [f"{at}/{name} is gone" for name in kept if name not in after]
        for name in kept.keys() & after.keys():
            gone += lost(kept[name], after[name], but=but, at=f"{at}/{name}")
        return gone
    if before == [] and isinstance(after, list):
        return []
    return [] if before == after else [f"{at} was {before!r} and is {after!r}"]


def routes(table: Mapping[str, bytes]) -> dict[str, Object]:
    """The routing records of a table."""
    return {key: json.loads(value) for key, value in table.items()}


def dead_letters(lines: str) -> list[Object]:
    """The output of `headrace dead-letters -o json`."""
    return [json.loads(line) for line in lines.splitlines() if line.startswith("{")]


def ids(arrivals: Sequence[tuple[str, str]]) -> list[str]:
    """The ids of events that arrived."""
    return [event for _, event in arrivals]
