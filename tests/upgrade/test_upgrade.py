"""This version continues with the records, resources, groups and topics of the previous version.

`data/<commit>.tar.xz` is the data directory of `headrace up` of that commit, stopped with work of
every kind left to do; `data/<commit>.json` says what was in it. See `data/README.txt`.
"""

import json
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

from headrace.domain.control_topics import SOURCES_TOPIC
from headrace.domain.reader_group import reader_group
from tests.support.processes import Processes, ServiceProcess
from tests.support.wait_until import wait_until
from tests.upgrade import resources, view
from tests.upgrade.record import show_dead_letters
from tests.upgrade.running import HEADRACE, running_up
from tests.upgrade.sink import Sink

DATA = Path(__file__).with_name("data")
ENDING = ".tar.xz"
RECORDED = sorted(each.name.removesuffix(ENDING) for each in DATA.glob(f"*{ENDING}"))
SECONDS = 60.0
NEW = [f"new{number}" for number in range(6)]
"""Events for every Trigger of shop/orders, by key and id: together they reach all partitions."""
LEFT = {
    "ordered": ["a1", "a2", "a3"],
    "retrying": ["r1"],
    "late": ["t1"],
    "refused-sink.dead": ["l1", "l2"],
    "in-flight": ["f1"],
}
"""What was left to do, by the path of the subscriber."""
LONGEST = "headrace.delay.1h"
SHORTER = ("headrace.delay.10s", "headrace.delay.1m", "headrace.delay.10m")
DELAYED = {**dict.fromkeys(SHORTER, 0.0), LONGEST: 2.0}
"""The events of the Trigger `patient`, and no others, when all is done."""
CLIENT = "[thrd:"
"""In every line of Kafka's client library, which warns while coordinators load."""
REFUSALS = ("delivery_failed", "event_dead_lettered")
"""What the subscribers of this test refuse."""
VERSION = "resourceVersion"
BROUGHT_ALONG = "CustomResourceDefinition"


@dataclass(frozen=True)
class Upgraded:
    """This version on the data of the previous version, and what that had."""

    process: ServiceProcess
    before: dict[str, Any]
    api: view.Api
    kafka: view.KafkaView

    def address(self, what: str) -> str:
        """What this version printed below this heading."""
        return view.address(self.process.output(), what)

    def metrics(self) -> list[str]:
        """The page of the management port."""
        url = f"http://{self.address('health, metrics')}/metrics"
        with urllib3.PoolManager(retries=False, timeout=10.0) as pool:
            return pool.request("GET", url).data.decode().splitlines()


@pytest.fixture(params=RECORDED)
def upgraded(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    processes: Processes,
) -> Iterator[Upgraded]:
    """This version, started on a copy of the recorded directory."""
    if shutil.which("java") is None:
        pytest.skip("not proven here: `headrace up --kafka apache` needs Java on PATH")
    with tarfile.open(DATA / f"{request.param}{ENDING}") as packed:
        packed.extractall(tmp_path, filter="tar")
    (tmp_path / ".headrace").chmod(0o700)
    before = json.loads((DATA / f"{request.param}.json").read_text(encoding="utf-8"))
    with running_up(processes, HEADRACE, tmp_path) as process:
        output = process.output()
        api = view.Api(view.address(output, "controller API"))
        yield Upgraded(process, before, api, view.KafkaView(view.address(output, "Kafka")))
        api.close()


@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_the_work_of_the_previous_version_is_continued(upgraded: Upgraded) -> None:
    """No stored record is lost or misread, what was done is not repeated, what was left is done."""
    _is_ready_again(upgraded)
    _has_its_resources(upgraded)
    _has_its_topics_and_groups(upgraded)
    _reads_every_record(upgraded)
    _shows_its_dead_letters(upgraded)
    wait_until(lambda: _delayed(upgraded).get(LONGEST) == 2, SECONDS, "two events wait for hours")
    with Sink("127.0.0.1") as sink:
        _subscribe(upgraded, sink)
        wait_until(lambda: not _left(sink), SECONDS, "what was left has arrived")
        sent = _send(upgraded)
        wait_until(lambda: not _undone(upgraded), SECONDS, "all is done and committed")
        arrivals = sink.arrivals()
    wanted = [(path, event) for path, events in [*LEFT.items(), *sent.items()] for event in events]
    assert Counter(wanted) == Counter(arrivals)
    in_order = [event for path, event in arrivals if path == "ordered"]
    assert LEFT["ordered"] == [event for event in in_order if event in LEFT["ordered"]]
    assert DELAYED == _delayed(upgraded)
    _knows_its_types(upgraded)
    _has_its_topics_and_groups(upgraded)
    _makes_new_ones_alike(upgraded)
    _reads_every_record(upgraded)


NEW_CONTROL_TOPICS = (SOURCES_TOPIC,)
"""Control topics that a previous version did not have."""


def _left(sink: Sink) -> dict[str, list[str]]:
    """Events that have not arrived yet."""
    come = set(sink.accepted())
    left = {path: [each for each in LEFT[path] if (path, each) not in come] for path in LEFT}
    return {path: events for path, events in left.items() if events}


def _is_ready_again(upgraded: Upgraded) -> None:
    """As determined by this version: with its ingress as address, and records of its epoch."""
    ingress = upgraded.address("ingress")
    epoch = max(each["epoch"] for each in upgraded.before["routes"].values())

    def ready(thing: view.Object) -> bool:
        updated = thing["kind"] != "Broker" or ingress in json.dumps(thing.get("status"))
        return updated and view.ready(thing)

    def all_ready() -> bool:
        records = view.routes(upgraded.kafka.table(view.ROUTING)).values()
        written = all(each["epoch"] > epoch for each in records)
        return written and all(map(ready, upgraded.api.objects().values()))

    wait_until(all_ready, SECONDS, "every Broker and Trigger is Ready")


def _has_its_resources(upgraded: Upgraded) -> None:
    """The same objects, by uid and generation; their versions continue."""
    before: dict[str, view.Object] = upgraded.before["objects"]
    after = {name: view.described(each) for name, each in upgraded.api.objects().items()}
    assert [] == view.lost(before, after, but=(VERSION,))
    new = {name: each["kind"] for name, each in after.items() if name not in before}
    assert {} == {name: kind for name, kind in new.items() if kind != BROUGHT_ALONG}
    for name, each in before.items():
        was, now = (int(found["metadata"][VERSION]) for found in (each, after[name]))
        written = each["kind"] not in ("ConfigMap", "Secret", "Mailbox")  # Others have a status.
        assert was == now or (written and was < now), f"{name} was of version {was} and is of {now}"
    kept = upgraded.kafka.table(view.RESOURCES)
    keys = [key for key in upgraded.before["resources"] if not key.startswith("/events/")]
    assert [] == [key for key in keys if key not in kept]
    assert [] == view.lost(upgraded.before["internal"], view.internal(kept), but=(VERSION,))


def _has_its_topics_and_groups(upgraded: Upgraded) -> None:
    """The same topics, and the control topics that the previous version did not have; groups that
    routing records name, and those of the readers of their topics; no offset decreased.
    """
    topics = upgraded.kafka.topics()
    new = {name: topics[name] for name in NEW_CONTROL_TOPICS if name in topics}
    assert {**upgraded.before["topics"], **new} == topics
    groups = {each.get("group") for each in upgraded.before["routes"].values()} - {None}
    channels = {each["topic"] for each in upgraded.before["routes"].values() if "topic" in each}
    named = (
        groups
        | {f"{each}.retry" for each in groups}
        | {reader_group(each) for each in channels}
        | {*NEW_CONTROL_TOPICS}
    )
    before, after = upgraded.before["groups"], upgraded.kafka.groups()
    assert set(before) <= set(after) <= named
    for group, places in before.items():
        for place, (was, _) in places.items():
            now, _ = after[group].get(place, (-1, ""))
            assert was <= now, f"{group} was at {was} of {place} and is at {now}"


def _reads_every_record(upgraded: Upgraded) -> None:
    """Routing records are accepted, and written as before except for what a start itself
    changes.
    """
    before, after = (
        upgraded.before["routes"],
        view.routes(upgraded.kafka.table(view.ROUTING)),
    )
    after = {key: each for key, each in after.items() if each.get("name") != resources.NEW}
    moving = ("epoch", "generation", "subscriber", "deadLetterSink")
    assert [] == view.lost(before, after, but=moving)
    assert set(before) == set(after)
    output = upgraded.process.output().splitlines()
    lines = [json.loads(line) for line in output if line.startswith("{")]
    assert {"info"} <= {each["level"] for each in lines}, "there is a log"
    bad = [each for each in lines if each["level"] not in ("debug", "info")]
    assert [] == [
        each for each in bad if CLIENT not in each["event"] and each["event"] not in REFUSALS
    ]


def _shows_its_dead_letters(upgraded: Upgraded) -> None:
    for name, letters in upgraded.before["deadLetters"].items():
        which = ("--topic", name) if name.endswith(".dead") else (name, "-n", resources.SHOP)
        shown = show_dead_letters(HEADRACE, upgraded.process, *which)
        assert len(letters) == len(shown)
        assert [] == view.lost(dict(enumerate(letters)), dict(enumerate(shown)))


def _knows_its_types(upgraded: Upgraded) -> None:
    """Types that it observes again do not get a second EventType."""

    def made() -> list[str]:
        found = upgraded.api.objects()
        new = [found[name] for name in found if name not in upgraded.before["objects"]]
        return [each["spec"]["type"] for each in new if each["kind"] == "EventType"]

    wait_until(made, SECONDS, "the new type of event is known")
    assert [resources.EVERYONE] == made()


def _makes_new_ones_alike(upgraded: Upgraded) -> None:
    """A new Broker and Trigger have names and topics as those of the previous version.

    The names of older ones are stored, so they alone would not show a change of the format.
    """
    for each in resources.newcomers("http://127.0.0.1:9/"):
        upgraded.api.apply(each)
    _is_ready_again(upgraded)
    before, after = upgraded.before["topics"], upgraded.kafka.topics()
    alike = {
        "knative-broker-shop-new": "knative-broker-shop-eu-stock",
        "knative-trigger-shop-new.retry": "knative-trigger-shop-eu-audit.retry",
        "knative-trigger-shop-new.dead": "knative-trigger-shop-eu-audit.dead",
    }
    assert set(alike) == set(after) - set(before) - set(NEW_CONTROL_TOPICS)
    for new, old in alike.items():
        assert before[old] | {"id": ""} == after[new] | {"id": ""}
    group = "knative-trigger-shop-new"
    wait_until(lambda: group in upgraded.kafka.groups(), SECONDS, f"{group} has committed")


def _delayed(upgraded: Upgraded) -> dict[str, float]:
    """The number of events in each delay topic."""
    form = re.compile(r'headrace_delayed_records\{topic="([^"]+)"\} (\S+)')
    found = map(form.fullmatch, upgraded.metrics())
    return {each[1]: float(each[2]) for each in found if each is not None}


def _subscribe(upgraded: Upgraded, sink: Sink) -> None:
    """Point every Trigger at this test's sink."""
    upgraded.api.merge(resources.mailbox(sink.url), subresource="/status")
    for path in (*resources.SUBSCRIBERS, *resources.OTHERS):
        spec: dict[str, Any] = {"subscriber": {"uri": f"{sink.url}/{path}"}}
        if path == "refused-sink":
            spec["delivery"] = {"deadLetterSink": {"uri": f"{sink.url}/{path}.dead"}}
        if path != "by-reference":  # This one finds it through the Mailbox.
            upgraded.api.merge({**resources.trigger(path), "spec": spec})
    wait_until(lambda: _all_lead_to(upgraded, sink.url), SECONDS, "every Trigger leads to our sink")


def _all_lead_to(upgraded: Upgraded, url: str) -> bool:
    records = view.routes(upgraded.kafka.table(view.ROUTING)).values()
    found = [each["subscriber"]["url"] for each in records if "subscriber" in each]
    ready = all(map(view.ready, upgraded.api.objects().values()))
    return ready and all(each.startswith(url) for each in found)


def _send(upgraded: Upgraded) -> dict[str, list[str]]:
    """New events for every Trigger; by path, what must arrive."""
    ingress = upgraded.address("ingress")
    partitions = [f"knative-broker-shop-orders/{number}" for number in range(3)]
    ends = upgraded.kafka.ends(partitions)
    for event in NEW:
        view.send(ingress, "shop/orders", event, resources.EVERYONE, key=event)
    reached = upgraded.kafka.ends(partitions)
    assert [] == [place for place in partitions if reached[place] == ends[place]]
    for path, (namespace, _, broker) in resources.OTHERS.items():
        view.send(ingress, f"{namespace}/{broker}", f"new.{path}", "stock")
    others = {path: [f"new.{path}"] for path in resources.OTHERS}
    return {**dict.fromkeys(resources.SUBSCRIBERS, NEW), **others}


def _undone(upgraded: Upgraded) -> list[str]:
    """Partitions in which a group is not at the end: their events may still be in progress."""
    groups = upgraded.kafka.groups()
    del groups["headrace.delay"]
    ends = upgraded.kafka.ends({place for places in groups.values() for place in places})
    found = []
    for group, places in groups.items():
        late = [place for place, (offset, _) in places.items() if offset < ends[place]]
        found += [f"{group} {place}" for place in late]
    return found
