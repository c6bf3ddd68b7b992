"""The cases: one for each adapter of the sources service, under its name."""

import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import pytest
from tests.support.headrace_under_test import HeadraceUnderTest

from bench.sources import api_server, clocks, kafka, programs, pubsub, sqs, webhooks
from bench.sources.figures import SourceFigures, not_measured
from bench.sources.service import Service, Sizes, Unavailable


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of source, as the table names it."""

    kind: str
    measure: Callable[[Service], SourceFigures]


CASES: Mapping[str, Case] = {
    "none": Case("no source", programs.measure_idle),
    "kafka": Case("KafkaSource", kafka.measure),
    "webhook": Case("WebhookSource", webhooks.measure_webhook),
    "github": Case("GitHubSource", webhooks.measure_github),
    "aws-sqs": Case("IntegrationSource aws.sqs", sqs.measure),
    "gcp-pubsub": Case("CloudPubSubSource", pubsub.measure),
    "kubernetes": Case("ApiServerSource", api_server.measure),
    "ping": Case("PingSource", clocks.measure_ping),
    "timer": Case("IntegrationSource timer", clocks.measure_timer),
    "camel": Case("CamelSource", programs.measure_camel),
    "container": Case("ContainerSource", programs.measure_container),
}


def measure_sources(
    system: HeadraceUnderTest, sizes: Sizes, names: Collection[str] = tuple(CASES)
) -> list[SourceFigures]:
    """Measure these cases one after the other."""
    service, results = Service(system, sizes), []
    for name in (each for each in CASES if each in names):
        began = time.monotonic()
        found = _measure(CASES[name], service)
        results.append(found)
        rate = "" if found.per_second is None else f"{found.per_second:,.0f}/s"
        took = time.monotonic() - began
        print(f"{found.kind}: {rate or found.note or 'idle'} (in {took:.0f} s)", file=sys.stderr)
    return results


def _measure(case: Case, service: Service) -> SourceFigures:
    try:
        found = case.measure(service)
    except Unavailable as error:
        found = not_measured(str(error))
    except pytest.skip.Exception as skipped:
        # How the servers of the tests say that they cannot run here.
        found = not_measured(str(skipped))
    return replace(found, kind=case.kind)
