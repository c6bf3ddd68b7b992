"""A ledger of GitHub's deliveries while the processes of the sources service are killed."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_github_source import example, one, secret
from tests.support.github_server import AT_ONCE_MAX, GitHubServer, Sent, github_server
from tests.support.headrace_under_test import HeadraceUnderTest, headrace_in
from tests.support.manifests import broker, trigger
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

NAME = "github-ledger"
EVENTS_MAX = 4_000
EVENTS_PER_SECOND = 20.0
TAKEN_MIN = 100
KILLS = 3
TAKE_OVER_SECONDS = 30.0
REPAIRED_SECONDS = 60.0

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.fixture
def headrace(tmp_path: Path) -> Iterator[HeadraceUnderTest]:
    """An installation with two processes of the sources service."""
    with headrace_in(tmp_path) as started:
        started.run_sources(2)
        yield started


def test_nothing_that_github_was_answered_202_for_is_lost(headrace: HeadraceUnderTest) -> None:
    """And with GitHub's own redelivery, nothing at all: kill -9 of the process that is called, and
    of the ingress.
    """
    headrace.sinks.script(NAME, Script(record=True))
    with github_server(calls=True) as github:
        source = one(example(headrace, github, "sources/github/github.yaml", NAME), "GitHubSource")
        headrace.apply(secret("github", NAME, accessToken=github.token, secretToken="sesame"))
        headrace.establish(broker(NAME, "default"))
        headrace.establish(trigger(NAME, "all", headrace.sinks.url(NAME), broker="default"))
        headrace.establish(source)
        enough = threading.Event()
        sender = threading.Thread(target=_deliver, args=(github, enough))
        sender.start()
        try:
            for _ in range(KILLS):
                _kill_the_one_that_is_called(headrace, github)
            wait_until(lambda: len(_taken(github)) > TAKEN_MIN, 60, "enough events are taken")
        finally:
            enough.set()
            sender.join()
        pushes = [each for each in _sent(github) if each.event == "push"]
        every = {each.guid for each in pushes}
        taken = {each.guid for each in pushes if each.status == 202}
        assert len(taken) > TAKEN_MIN
        assert taken < every, "no request has failed: nothing was shown"
        wait_until(lambda: taken <= _arrived(headrace), 60, "what was answered 202 arrives")
        _repair(github)
        wait_until(lambda: every <= _arrived(headrace), 60, "all events arrive")
        ids = [each.headers.get("ce-id", "") for each in headrace.sinks.requests(NAME)]
        twice = len(ids) - len(set(ids))
        print(f"{len(every)} events, {len(taken)} taken the first time, {twice} sent twice")
        headrace.delete(source)
        assert github.all_hooks == []


def _deliver(github: GitHubServer, enough: threading.Event) -> None:
    begun = time.monotonic()
    for number in range(EVENTS_MAX):
        wait = begun + number / EVENTS_PER_SECOND - time.monotonic()
        if enough.wait(max(0.0, wait)):
            return
        github.deliver("push", {"number": number}, guid=f"guid-{number}")


def _kill_the_one_that_is_called(headrace: HeadraceUnderTest, github: GitHubServer) -> None:
    """Kill it, wait until another one has the webhook, and start it again, with the ingress."""
    [hook] = github.all_hooks
    before = hook["config"]["url"]
    holder = _holder(headrace, before)
    headrace.services[holder].kill()
    headrace.services["ingress"].kill()
    wait_until(lambda: hook["config"]["url"] != before, TAKE_OVER_SECONDS, "another one registers")
    headrace.run("ingress")
    headrace.run_with(holder, ["--port", "0", "--instance", holder, *headrace.options_of_sources()])
    headrace.wait_until_ready(holder)
    headrace.wait_until_ready("ingress")


def _holder(headrace: HeadraceUnderTest, url: str) -> str:
    port = url.partition("//")[2].partition("/")[0].rpartition(":")[2]
    return next(
        each
        for each in ("sources-0", "sources-1")
        if f":{port}" in headrace.services[each].output()
    )


def _taken(github: GitHubServer) -> set[str]:
    """The pushes that were answered 202."""
    return {each.guid for each in _sent(github) if each.event == "push" and each.status == 202}


def _sent(github: GitHubServer) -> list[Sent]:
    return [each for found in list(github.sent.values()) for each in list(found)]


def _repair(github: GitHubServer) -> None:
    """Let GitHub send again what was not taken, each request once at a time, until all are."""
    asked: set[int] = set()

    def repaired() -> bool:
        sent = [each for each in _sent(github) if each.event == "push"]
        taken = {each.guid for each in sent if each.status == 202}
        newest = {each.guid: each.id for each in reversed(sent) if each.guid not in taken}
        [hook] = github.all_hooks
        headers = {"authorization": f"Bearer {github.token}"}
        for delivery in [each for each in newest.values() if each not in asked][:AT_ONCE_MAX]:
            asked.add(delivery)
            path = f"/repos/knative/docs/hooks/{hook['id']}/deliveries/{delivery}/attempts"
            github.answer("POST", path, headers, b"")
        return not newest

    wait_until(repaired, REPAIRED_SECONDS, "GitHub sends the others again")


def _arrived(headrace: HeadraceUnderTest) -> set[str]:
    return {each.headers.get("ce-id", "") for each in headrace.sinks.requests(NAME)}
