"""Sources that are programs of their own, which the sources service starts."""

import json
import sys
import time
from dataclasses import replace

import psutil
from tests.support.camel import camel_processes
from tests.support.headrace_under_test import condition
from tests.support.manifests import Manifest
from tests.support.wait_until import wait_until

from bench.load import EVENT_BYTES, Meter
from bench.sources.figures import SourceFigures
from bench.sources.service import PROCESS, Service, Unavailable, source, source_to
from headrace_sources.adapters.camel.artifacts import missing_programs

CAMEL_SECONDS = 300.0
"""The first time on a machine Camel is downloaded."""
CAMEL_LACKING = frozenset({"MavenMissing", "DownloadFailed"})
POSTS_PER_SECOND = 10
PROGRAM = f"""
import http.client, os, time
from urllib.parse import urlsplit
sink = urlsplit(os.environ["K_SINK"])
connection = http.client.HTTPConnection(sink.hostname, sink.port, timeout=10)
number = 0
while True:
    headers = {{"ce-specversion": "1.0", "ce-type": "bench.event", "ce-source": "/bench",
                "ce-id": f"{{os.getpid()}}-{{number}}", "content-type": "text/plain"}}
    connection.request("POST", sink.path, b"x" * {EVENT_BYTES}, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 202:
        raise SystemExit(f"{{answer.status}} {{text}}")
    number += 1
    time.sleep({1 / POSTS_PER_SECOND})
"""


def measure_camel(service: Service) -> SourceFigures:
    """A timer of Camel with the shortest period. The CPU of its Java process is a figure of its
    own.
    """
    if missing := missing_programs():
        raise Unavailable(missing)
    with service.running({"HEADRACE_SOURCES_CAMEL": "true"}):
        topic = service.broker("camel")
        steps = [{"setBody": {"constant": "x" * EVENT_BYTES}}]
        route = [{"from": {"uri": "timer:bench?period=1", "steps": steps}}]
        camel = source(
            "CamelSource", "sources.headrace.dev/v1alpha1", "camel", route=json.dumps(route)
        )
        service.apply(camel)
        wait_until(lambda: _runs(service, camel), CAMEL_SECONDS, "Camel runs", every=0.2)
        time.sleep(service.sizes.camel_warm_seconds)
        [java] = camel_processes()
        meter = Meter(java.pid)
        found = service.watch(topic, warm_seconds=0, outside="Camel's one thread")
        return replace(
            found,
            other_us=meter.micros_per(found.events),
            note=f"other: Java, {meter.rss_mib():.0f} MiB",
        )


def _runs(service: Service, camel: Manifest) -> bool:
    """Whether it is Ready. Raises Unavailable if it cannot be downloaded."""
    deployed = condition(service.system.get(camel) or {}, "Deployed")
    if deployed.get("reason") in CAMEL_LACKING:
        raise Unavailable(str(deployed.get("message")))
    return service.system.is_settled(camel)


def measure_container(service: Service) -> SourceFigures:
    """Small programs as processes. What they send goes to the ingress, so that there is no CPU of
    the sources service per event: what it uses is what supervising the programs costs.
    """
    count = service.sizes.programs
    with service.running({"HEADRACE_SOURCES_CONTAINERS": "process"}):
        topic = service.broker("container")
        container = {"image": "bench", "command": [sys.executable, "-c", PROGRAM]}
        service.establish(
            *(
                source_to(
                    "container",
                    "ContainerSource",
                    "sources.knative.dev/v1",
                    f"container-{number}",
                    template={"spec": {"containers": [container]}},
                )
                for number in range(count)
            )
        )
        found = service.watch(
            topic,
            warm_seconds=service.sizes.warm_seconds,
            outside="the programs",
        )
        guards = psutil.Process(service.system.services[PROCESS].pid).children()
        guard_mib = sum(each.memory_info().rss for each in guards) / max(1, len(guards)) / (1 << 20)
        return replace(
            found,
            cpu_us=None,
            note=f"{count} programs post to the ingress; the guard of each: {guard_mib:.0f} MiB",
        )


def measure_idle(service: Service) -> SourceFigures:
    """The service without a source: what is part of the figures of every other case."""
    with service.running():
        time.sleep(service.sizes.warm_seconds)
        meter = service.meter()
        time.sleep(service.sizes.seconds)
        return SourceFigures(cpus=meter.share(), rss_mib=meter.rss_mib())
