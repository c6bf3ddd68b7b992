"""What GitHub is asked to send again."""

import pytest

from headrace.adapters.http.client_options import deny_none
from headrace.adapters.memory.clock import MemoryClock
from headrace_sources.adapters.github_api import Delivery, GitHubHooks
from headrace_sources.adapters.github_faults import GitHubFault
from headrace_sources.adapters.github_redelivery import AT_ONCE_MAX, Redelivery, failed
from tests.support.github_server import Answer, GitHubServer, github_server

SCOPE = "repos/knative/docs"


def delivery(id: int, guid: str, at: float, *, succeeded: bool = False) -> Delivery:
    """One of a list."""
    return Delivery(id, guid, at, succeeded)


def test_only_events_that_no_delivery_has_succeeded_for() -> None:
    """The newest delivery of each, the oldest event first."""
    found = failed(
        [
            delivery(6, "again", 60.0),
            delivery(5, "repaired", 50.0, succeeded=True),
            delivery(4, "new", 40.0),
            delivery(3, "repaired", 30.0),
            delivery(2, "again", 20.0),
            delivery(1, "fine", 10.0, succeeded=True),
        ]
    )
    assert [each.id for each in found] == [6, 4]


def redelivery(github: GitHubServer, clock: MemoryClock) -> Redelivery:
    """One over a running server."""
    hooks = GitHubHooks(
        api_url=github.url,
        owner_and_repository="knative/docs",
        token=github.token,
        address_denied=deny_none,
        clock=clock,
    )
    return Redelivery(hooks, clock)


async def test_a_failed_request_is_sent_again_at_growing_intervals() -> None:
    """Not while it may be under way, not in a hot loop, and not once it has succeeded."""
    clock = MemoryClock()
    with github_server() as github:
        hook = github.add_hook(SCOPE, "http://127.0.0.1:1/")
        tried = redelivery(github, clock)
        github.note(hook, "first", 503, clock.now())
        assert 0 == await tried.run(hook)
        clock.advance(31.0)
        assert 1 == await tried.run(hook)
        assert 0 == await tried.run(hook)
        clock.advance(60.0)
        assert 1 == await tried.run(hook)
        clock.advance(60.0)
        assert 0 == await tried.run(hook)
        clock.advance(60.0)
        assert 1 == await tried.run(hook)
        github.note(hook, "first", 202, clock.now())
        clock.advance(3_600.0)
        assert 0 == await tried.run(hook)
        assert 3 == github.count("POST", "/attempts")


async def test_all_pages_are_read_and_a_round_is_bounded() -> None:
    """The oldest failures come first; deliveries that GitHub no longer has are left."""
    clock = MemoryClock()
    with github_server() as github:
        hook = github.add_hook(SCOPE, "http://127.0.0.1:1/")
        tried = redelivery(github, clock)
        github.note(hook, "too old", 500, clock.now() - 4 * 86_400)
        oldest = github.note(hook, "oldest", 500, clock.now() - 7_200)
        for number in range(150):
            github.note(hook, f"fine {number}", 202, clock.now() - 3_600)
        for number in range(30):
            github.note(hook, f"failed {number}", 0, clock.now() - 1_800)
        assert AT_ONCE_MAX == await tried.run(hook)
        first = next(path for method, path in github.requests if method == "POST")
        assert f"/deliveries/{oldest.id}/attempts" in first
        assert 31 - AT_ONCE_MAX == await tried.run(hook)


async def test_a_server_without_this_api_is_left_in_peace() -> None:
    """GitHub Enterprise Server before 3.2. It is asked once."""
    clock = MemoryClock()
    with github_server() as github:
        hook = github.add_hook(SCOPE, "http://127.0.0.1:1/")
        tried = redelivery(github, clock)
        github.next.append(Answer(404, {"message": "Not Found"}))
        assert 0 == await tried.run(hook)
        asked = len(github.requests)
        assert 0 == await tried.run(hook)
        assert asked == len(github.requests)


async def test_a_webhook_that_is_gone_is_a_fault() -> None:
    """It has to be created again."""
    clock = MemoryClock()
    with github_server() as github:
        hook = github.add_hook(SCOPE, "http://127.0.0.1:1/")
        github.hooks[SCOPE].clear()
        with pytest.raises(GitHubFault):
            await redelivery(github, clock).run(hook)
