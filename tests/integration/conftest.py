"""The installation that several files here share, and the server that it uses."""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from tests.support.headrace_under_test import HeadraceUnderTest
from tests.support.installations import EVERYWHERE, installation
from tests.support.pubsub_server import PubSubServer, pubsub_server_in
from tests.support.shared_installation import SHARED
from tests.support.xdist_scheduling import uses_shared_installation


@pytest.fixture(scope="session")
def pubsub() -> Iterator[PubSubServer]:
    """A Pub/Sub server; each test has topics of its own."""
    with pubsub_server_in() as started:
        yield started


@pytest.fixture(scope="module", params=EVERYWHERE)
def everywhere(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HeadraceUnderTest]:
    """An installation in each place, with two processes of the sources service where these are
    processes of their own.
    """
    where = request.param
    assert uses_shared_installation(request.node.nodeid), "list the file in SHARED_INSTALLATION"

    def start() -> AbstractContextManager[HeadraceUnderTest]:
        directory = tmp_path_factory.mktemp(where)
        return installation(where, request, directory, env=_pubsub_env(request), sources=2)

    with SHARED.use(where, start) as started:
        yield started


@pytest.fixture(scope="module")
def headrace(everywhere: HeadraceUnderTest) -> HeadraceUnderTest:
    """The same, in files that have no installation of their own."""
    return everywhere


def _pubsub_env(request: pytest.FixtureRequest) -> dict[str, str]:
    """What the sources need to know of the Pub/Sub server, where there is one."""
    try:
        server: PubSubServer = request.getfixturevalue("pubsub")
    except pytest.skip.Exception:
        return {}
    return dict(server.env)
