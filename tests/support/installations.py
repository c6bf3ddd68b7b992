"""An installation by the place of its resources: what the tests that hold in every place run on."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.embedded_headrace import embedded_headrace_in
from tests.support.headrace_on_kubernetes import HeadraceOnKubernetes
from tests.support.headrace_under_test import HeadraceUnderTest, headrace_in, kafka_for_headrace
from tests.support.kubernetes import KubernetesUnderTest

EVERYWHERE = (
    pytest.param("apache", marks=pytest.mark.kafka),
    pytest.param("kubernetes", marks=pytest.mark.kafka),
    "embedded",
)
"""Resources in Apache Kafka, in a Kubernetes API server, and in the memory of `headrace up`."""


@contextlib.contextmanager
def installation(
    where: str,
    request: pytest.FixtureRequest,
    directory: Path,
    *,
    env: Mapping[str, str] | None = None,
    in_memory: bool = False,
    sources: int = 0,
) -> Iterator[HeadraceUnderTest]:
    """A started installation. `in_memory` adds the process for in-memory channels, `sources` that
    many processes of the sources service, where `headrace up` does not have them itself.
    """
    with _installation(where, request, directory, env=env, in_memory=in_memory) as started:
        if sources:
            started.run_sources(sources)
        yield started


@contextlib.contextmanager
def _installation(
    where: str,
    request: pytest.FixtureRequest,
    directory: Path,
    *,
    env: Mapping[str, str] | None,
    in_memory: bool,
) -> Iterator[HeadraceUnderTest]:
    if where == "apache":
        with headrace_in(directory, env=env, in_memory=in_memory) as started:
            yield started
    elif where == "embedded":
        with embedded_headrace_in(directory, env=env) as embedded:
            yield embedded
    else:
        kubernetes: KubernetesUnderTest = request.getfixturevalue("kubernetes")
        with kafka_for_headrace(directory) as apache:
            system = HeadraceOnKubernetes(apache.bootstrap_servers, directory, kubernetes, env=env)
            try:
                if in_memory:
                    system.run_in_memory()
                yield system.start()
            except BaseException:
                print(system.processes.report())
                raise
            finally:
                system.close()
