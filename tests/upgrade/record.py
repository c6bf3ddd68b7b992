"""Records a data directory of a version, for the test that a later version is started on it.

`python -m tests.upgrade.record --headrace PATH OUT` runs the `headrace` at PATH and writes
`OUT.tar.xz`, what `.headrace/` holds after an orderly end, and `OUT.json`, what was sent, what
arrived, and what was in Kafka and the API just before.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.processes import Processes, ServiceProcess
from tests.support.wait_until import wait_until
from tests.upgrade import resources, view
from tests.upgrade.running import running_up
from tests.upgrade.sink import Answer, Sink

UNUSED_ADDRESS = "127.86.65.3"
"""Where the subscribers are: a loopback address on which nothing listens when the test runs."""
SECONDS = 60.0
BACKLOG: Mapping[str, str] = {"a1": "a", "a2": "a", "a3": "a", "b1": "b", "b2": "b"}
"""Events of the ordered Trigger with their keys; `a1` fails."""
ANSWERS: Mapping[str, Answer] = {
    "ordered": lambda event: 503 if event == "a1" else 202,
    "retrying": lambda _: 503,
    "late": lambda _: 503,
    "patient": lambda _: 503,
    "rejected": lambda _: 400,
    "refused-sink": lambda _: 400,
    "refused-sink.dead": lambda _: 503,
    "in-flight": lambda event: None if event == "f1" else 202,
    resources.GONE: lambda _: 400,
}
EVENTS: Mapping[str, Mapping[str, str]] = {
    "delivered": {"d1": "x", "d2": "x", "d3": "y", "d4": "y", "d5": "", "d6": ""},
    "ordered": BACKLOG,
    "retrying": {"r1": ""},
    "patient": {"p1": "", "p2": "x"},
    "rejected": {"j1": "", "j2": "x"},
    "refused-sink": {"l1": "", "l2": "x"},
    "in-flight": {"f1": "f", "f2": "f", "f3": "f"},
    "by-reference": {"m1": ""},
    resources.GONE: {"g1": ""},
}
"""Ids and keys of the events sent to the Broker shop/orders, by type."""
LATE = "t1"
"""For the Trigger `late`, sent at the end: its retry waits in a delay topic at the stop."""
DONE: Mapping[str, tuple[str, ...]] = {
    "delivered": ("d1", "d2", "d3", "d4", "d5", "d6"),
    "ordered": ("b1", "b2"),
    "in-flight": ("f2", "f3"),
    "by-reference": ("m1",),
    "shop.eu-audit": ("s1",),
    "shop-eu.audit": ("s2",),
    "default.all": ("s3",),
}
"""What each subscriber accepted."""
REBUILT = ("kafka.log", "kafka.pid", "ports", "server.properties", "data/*-delete")
"""Files that each start writes again, and topics that Kafka was about to delete."""
DONE_BEYOND = re.compile(r"@h1\|[0-9a-f]+\|[0-9a-f.]+\|")
"""Part of a commit's metadata: what is done beyond the offset."""


def main() -> None:
    """Record, pack, and print the size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--headrace", type=Path, required=True, help="the command of the version")
    parser.add_argument("out", type=Path, help="without .tar.xz and .json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-record-") as directory:
        processes = Processes(Path(directory) / "logs")
        try:
            manifest = record(processes, arguments.headrace, Path(directory))
        except AssertionError:
            print(processes.report(), file=sys.stderr)
            raise
        finally:
            processes.close()
        out: Path = arguments.out
        out.parent.mkdir(parents=True, exist_ok=True)
        archive, beside = (out.with_name(out.name + ending) for ending in (".tar.xz", ".json"))
        pack(Path(directory) / ".headrace", archive)
    beside.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for each in (archive, beside):
        print(f"{each}: {each.stat().st_size} bytes")


def record(processes: Processes, headrace: Path, directory: Path) -> dict[str, Any]:
    """Run the version through everything that the test starts from, and return the end state."""
    first = directory / "first.yaml"  # Without this file, the quickstart would be applied.
    first.write_text(json.dumps(resources.FIRST), encoding="utf-8")
    up = running_up(processes, headrace, directory, "-f", str(first))
    with Sink(UNUSED_ADDRESS, ANSWERS) as sink, up as process:
        output = process.output()
        api = view.Api(view.address(output, "controller API"))
        kafka = view.KafkaView(view.address(output, "Kafka"))
        _apply(api, sink)
        ingress = view.address(output, "ingress")
        _send(ingress)
        _wait(api, kafka, sink)
        view.send(ingress, f"{resources.SHOP}/orders", LATE, "late")
        _wait_for_delays(kafka, "10s", 1)
        wait_until(lambda: _types(api) == len(EVENTS) + 5, SECONDS, "every type of event is known")
        wait_until(lambda: _committed(kafka), SECONDS, "what is done is committed")
        manifest = {
            "objects": {name: view.described(each) for name, each in api.objects().items()},
            "topics": kafka.topics(),
            "groups": kafka.groups(),
            "routes": view.routes(kafka.table(view.ROUTING)),
            "resources": sorted(resources_kept := kafka.table(view.RESOURCES)),
            "internal": view.internal(resources_kept),
            "accepted": sink.accepted(),
            "deadLetters": _dead_letters(headrace, process),
        }
        api.close()
    return manifest


def _apply(api: view.Api, sink: Sink) -> None:
    for each in resources.manifests(lambda path: f"{sink.url}/{path}"):
        api.apply(each)
        if each["kind"] == "CustomResourceDefinition":
            wait_until(lambda: _served(api), SECONDS, "Mailboxes are served")
        if each["kind"] == "Mailbox":
            api.merge(resources.mailbox(sink.url), subresource="/status")
    wait_until(lambda: all(map(view.ready, api.objects().values())), SECONDS, "all are Ready")


def _served(api: view.Api) -> bool:
    try:
        return bool(api.objects()) or True
    except AssertionError:
        return False


def _send(ingress: str) -> None:
    for kind, events in EVENTS.items():
        for event, key in events.items():
            view.send(ingress, f"{resources.SHOP}/orders", event, kind, key=key)
    brokers = ("shop/eu-stock", "shop-eu/stock", "default/default")
    for broker, event in zip(brokers, ("s1", "s2", "s3"), strict=True):
        view.send(ingress, broker, event, "stock")


def _wait(api: view.Api, kafka: view.KafkaView, sink: Sink) -> None:
    """Until every event has reached its place, and what is done is committed."""
    for path, done in DONE.items():
        wait_until(lambda p=path, d=done: set(d) == set(view.ids(sink.accepted(p))), SECONDS, path)  # type: ignore[misc]
    wait_until(lambda: ("in-flight", "f1") in sink.arrivals(), SECONDS, "f1 is in flight")
    wait_until(lambda: len(sink.arrivals("ordered")) > 4, SECONDS, "a1 has failed twice")
    wait_until(lambda: len(sink.arrivals("retrying")) > 1, SECONDS, "r1 has failed twice")
    refused = {"l1", "l2"}
    wait_until(
        lambda: refused == set(view.ids(sink.arrivals("refused-sink.dead"))),
        SECONDS,
        "the sink refuses",
    )
    _wait_for_delays(kafka, "1h", 2)
    gone = resources.trigger(resources.GONE)
    group = f"knative-trigger-{resources.SHOP}-{resources.GONE}"
    wait_until(
        lambda: kafka.ends([f"{group}.dead/0"]) == {f"{group}.dead/0": 1},
        SECONDS,
        "its dead letter",
    )
    api.delete(gone)
    wait_until(lambda: api.get(gone) is None, SECONDS, "the Trigger is deleted")


def _wait_for_delays(kafka: view.KafkaView, tier: str, count: int) -> None:
    places = [f"headrace.delay.{tier}/{number}" for number in range(4)]
    wait_until(
        lambda: sum(kafka.ends(places).values()) == count,
        SECONDS,
        f"{count} events are delayed by {tier}",
    )


def _types(api: view.Api) -> int:
    return sum(each["kind"] == "EventType" for each in api.objects().values())


def _committed(kafka: view.KafkaView) -> bool:
    """Two events hold their partitions back; what is done behind them is stored with the offset."""
    groups = kafka.groups()
    held = {"in-flight", "ordered"}
    for path in resources.SUBSCRIBERS:
        offsets = groups[f"knative-trigger-{resources.SHOP}-{path}"]
        ends = kafka.ends(offsets)
        late = {place for place, (offset, _) in offsets.items() if offset != ends[place]}
        beyond = [place for place in late if DONE_BEYOND.search(offsets[place][1])]
        if (path in held) != len(late) or (path in held) != len(beyond):
            return False
    return True


def _dead_letters(headrace: Path, process: ServiceProcess) -> dict[str, list[view.Object]]:
    """The command's output, by Trigger, and by topic for the deleted one."""
    shown = {name: (name, "-n", resources.SHOP) for name in ("rejected", "refused-sink")}
    gone = f"knative-trigger-{resources.SHOP}-{resources.GONE}.dead"
    shown[gone] = ("--topic", gone)  # type: ignore[assignment]
    return {name: show_dead_letters(headrace, process, *which) for name, which in shown.items()}


def show_dead_letters(headrace: Path, process: ServiceProcess, *which: str) -> list[view.Object]:
    """`headrace dead-letters` as a user runs it next to this `headrace up`."""
    output = process.output()
    port = view.address(output, "health, metrics").rpartition(":")[2]
    server = f"http://{view.address(output, 'controller API')}"
    command = [
        str(headrace),
        "dead-letters",
        *which,
        "-o",
        "json",
        "--management-port",
        port,
        "--server",
        server,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return view.dead_letters(done.stdout)


def pack(directory: Path, archive: Path) -> None:
    """All except what a start writes again; after an orderly end index files have their
    true size.
    """
    for each in [each for name in REBUILT for each in (directory / "kafka").glob(name)]:
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    kept = sorted(each.name for each in directory.iterdir())
    if kept != ["kafka"]:
        raise SystemExit(f"{directory} holds more than Kafka's data: {kept}")
    archive.unlink(missing_ok=True)
    with tarfile.open(archive, "w:xz", preset=9) as packed:
        packed.add(directory, ".headrace", filter=_without_owner)


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
