"""GitHubSource: the webhook at GitHub, from its creation to its removal."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from headrace.runtime.clock import SystemClock
from headrace_sources.adapters.github import GitHubConfig, GitHubSource
from headrace_sources.source import SourceFault
from tests.support.github_server import Answer, GitHubServer, github_server
from tests.support.sources import RecordingContext, RecordingEmit, running

URL = "http://127.0.0.1:8084/default/source?source=uid-1"
SCOPE = "repos/knative/docs"
SECRETS = {("github", "token"): b"ghp_right\n", ("github", "secret"): b"sesame\n"}


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    """A server with no webhook yet."""
    with github_server() as started:
        yield started


def config(github: GitHubServer, **more: Any) -> GitHubConfig:
    """A configuration that looks at the webhook often."""
    return GitHubConfig.model_validate(
        {
            "ownerAndRepository": "knative/docs",
            "eventTypes": ["push", "issues"],
            "accessToken": {"name": "github", "key": "token"},
            "secretToken": {"name": "github", "key": "secret"},
            "githubAPIURL": github.url,
            "checkSeconds": 0.05,
            "redeliverySeconds": 0.05,
            **more,
        }
    )


def context_of(**more: Any) -> RecordingContext:
    """A context with the Secret."""
    return RecordingContext(**{"secrets": SECRETS, "clock": SystemClock(), **more})


@asynccontextmanager
async def configured(
    github: GitHubServer, context: RecordingContext, **more: Any
) -> AsyncIterator[RecordingContext]:
    """Run a source until its webhook is as it should be, and then until the block ends."""
    async with running(GitHubSource(config(github, **more), context), RecordingEmit()):
        await until(lambda: context.conditions.get("WebhookConfigured", (None,))[0] is True)
        yield context


async def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that another task does."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


async def fault_of(github: GitHubServer, **more: Any) -> tuple[str, str]:
    """Reason and message of the condition WebhookConfigured of a source that fails."""
    context = context_of()
    async with running(GitHubSource(config(github, **more), context), RecordingEmit()):
        await until(lambda: context.conditions.get("WebhookConfigured", (None,))[0] is False)
        assert context.handler is not None, "requests are received meanwhile"
    _, reason, message = context.conditions["WebhookConfigured"]
    assert "ghp_" not in message
    assert "sesame" not in message
    return reason, message


async def test_a_webhook_is_created(github: GitHubServer) -> None:
    """With the events, a secret and JSON; its id is published."""
    async with configured(github, context_of()) as context:
        [hook] = github.all_hooks
        assert hook["config"] == {
            "url": URL,
            "content_type": "json",
            "secret": "sesame",
            "insecure_ssl": "0",
        }
        assert hook["events"] == ["issues", "push"]
        assert hook["active"] is True
        assert context.fields["webhookIDKey"] == str(hook["id"])
        assert context.fields["webhookAddress"] == f"{github.url}/{SCOPE}/hooks/{hook['id']}"
        assert context.conditions["SecretsProvided"][0] is True


async def test_an_organization_has_webhooks_too(github: GitHubServer) -> None:
    """An owner alone is one."""
    async with configured(github, context_of(), ownerAndRepository="knative"):
        assert len(github.hooks["orgs/knative"]) == 1


async def test_secure_makes_the_url_https(github: GitHubServer) -> None:
    """Where a proxy in front ends TLS."""
    async with configured(github, context_of(), secure=True):
        assert github.all_hooks[0]["config"]["url"] == URL.replace("http://", "https://")


async def test_the_webhook_that_is_there_is_used(github: GitHubServer) -> None:
    """Found by its URL, among more than one page of others, and given today's secret."""
    for number in range(120):
        github.add_hook(SCOPE, f"http://127.0.0.1:1/{number}")
    own = github.add_hook(SCOPE, URL)
    async with configured(github, context_of()) as context:
        assert context.fields["webhookIDKey"] == str(own)
        assert github.hooks[SCOPE][own]["config"]["secret"] == "sesame"
        assert github.count("POST") == 0


async def test_a_webhook_with_another_secret_is_given_todays(github: GitHubServer) -> None:
    """GitHub does not show the secret, so it is written when the source starts."""
    own = github.add_hook(SCOPE, URL, events=["issues", "push"])
    async with configured(github, context_of(published={"webhookIDKey": str(own)})):
        assert github.hooks[SCOPE][own]["config"]["secret"] == "sesame"


async def test_a_webhook_that_appears_meanwhile_is_used(github: GitHubServer) -> None:
    """Another process has created it between the look and the creation."""
    own = github.add_hook(SCOPE, URL)
    github.next.append(Answer(200, []))
    async with configured(github, context_of()) as context:
        assert context.fields["webhookIDKey"] == str(own)
        assert github.hooks[SCOPE][own]["config"]["secret"] == "sesame"
    assert github.count("POST") == 1


@pytest.mark.parametrize(
    "url", ["https://before.example/x/y?source=uid-1", "http://127.0.0.1:8084/default/source"]
)
async def test_a_webhook_is_found_by_the_uid_or_the_address(github: GitHubServer, url: str) -> None:
    """Before its id was stored, under another public URL, or as that of a source that is gone."""
    own = github.add_hook(SCOPE, url)
    github.add_hook(SCOPE, "https://before.example/x/y?source=uid-2")
    async with configured(github, context_of()) as context:
        assert context.fields["webhookIDKey"] == str(own)
        assert github.hooks[SCOPE][own]["config"]["url"] == URL
        assert len(github.all_hooks) == 2


async def test_a_second_webhook_is_removed(github: GitHubServer) -> None:
    """Two processes may have created one each, at the moment when the lease changed hands."""
    first = github.add_hook(SCOPE, "http://127.0.0.1:1/default/source?source=uid-1")
    github.add_hook(SCOPE, "http://127.0.0.1:2/default/source?source=uid-1")
    async with configured(github, context_of()):
        assert [each["id"] for each in github.all_hooks] == [first]


async def test_a_webhook_moves_with_its_url(github: GitHubServer) -> None:
    """Found by its id, and changed."""
    own = github.add_hook(SCOPE, "http://127.0.0.1:1/before")
    async with configured(github, context_of(published={"webhookIDKey": str(own)})):
        [hook] = github.all_hooks
        assert (hook["id"], hook["config"]["url"]) == (own, URL)


async def test_a_source_of_another_repository_leaves_no_webhook_behind(
    github: GitHubServer,
) -> None:
    """The one at the former repository is removed."""
    github.scopes.add("repos/knative/before")
    own = github.add_hook("repos/knative/before", URL)
    before = {
        "webhookIDKey": str(own),
        "webhookAddress": f"{github.url}/repos/knative/before/hooks/{own}",
    }
    async with configured(github, context_of(published=before)):
        assert github.hooks["repos/knative/before"] == {}
        assert len(github.hooks[SCOPE]) == 1


async def test_a_webhook_that_was_changed_or_removed_is_put_right(github: GitHubServer) -> None:
    """Within the time between two looks, and nothing is written otherwise."""
    async with configured(github, context_of()) as context:
        [hook] = github.all_hooks
        await until(lambda: github.count("GET", f"hooks/{hook['id']}") > 5)
        assert github.count("PATCH") == 0
        hook["events"] = ["push"]
        await until(lambda: hook["events"] == ["issues", "push"])
        github.hooks[SCOPE].clear()
        await until(lambda: len(github.all_hooks) == 1)
        await until(lambda: context.fields["webhookIDKey"] == str(github.all_hooks[0]["id"]))


async def test_one_process_registers(github: GitHubServer) -> None:
    """The others receive."""
    context = context_of()
    context.leader.clear()
    async with running(GitHubSource(config(github), context), RecordingEmit()):
        await until(lambda: context.handler is not None)
        assert github.requests == []
        assert "WebhookConfigured" not in context.conditions
        context.leader.set()
        await until(lambda: len(github.all_hooks) == 1)


async def test_an_answer_that_was_lost_makes_no_second_webhook(github: GitHubServer) -> None:
    """GitHub says that the webhook exists, and it is found."""
    original = github.answer
    lost: list[Answer] = []

    def answer(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        found = original(method, target, headers, body)
        if method == "POST" and not lost:
            lost.append(found)
            return Answer(502, {"message": "Server Error"})
        return found

    github.answer = answer  # type: ignore[method-assign]
    async with configured(github, context_of()):
        assert len(github.all_hooks) == 1
    assert lost[0].status == 201


@pytest.mark.parametrize(
    ("answer", "reason", "part"),
    [
        (Answer(401, {"message": "Bad credentials"}), "CredentialRefused", "Bad credentials"),
        (
            Answer(403, {"message": "Resource not accessible by personal access token"}),
            "MissingRight",
            "Webhooks: read and write (admin:repo_hook of a classic token)",
        ),
        (Answer(301, {"message": "Moved Permanently"}), "Moved", "change spec.ownerAndRepository"),
        (Answer(500, {"message": "Server Error"}), "GitHubUnavailable", "500"),
        (Answer(200, "no hooks"), "GitHubUnavailable", "check spec.githubAPIURL"),
        (
            Answer(403, {"message": "limit"}, {"retry-after": "30"}),
            "RateLimited",
            "tried again in 31 s",
        ),
        (
            Answer(
                403,
                {"message": "API rate limit exceeded"},
                {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "0"},
            ),
            "RateLimited",
            "tried again in 1 s",
        ),
        (Answer(429, {"message": "slow down"}), "RateLimited", "tried again in 60 s"),
    ],
)
async def test_a_refusal_is_a_condition_that_says_what_to_do(
    github: GitHubServer, answer: Answer, reason: str, part: str
) -> None:
    """And no secret."""
    github.next.append(answer)
    found, message = await fault_of(github)
    assert found == reason
    assert part in message


async def test_a_repository_that_the_token_may_not_see(github: GitHubServer) -> None:
    """GitHub does not say which of the two it is."""
    reason, message = await fault_of(github, ownerAndRepository="knative/missing")
    assert reason == "NotFound"
    assert "GitHub has no repository knative/missing, or the access token" in message


async def test_a_url_that_github_cannot_reach(github: GitHubServer) -> None:
    """As on a laptop; the message names the setting."""
    github.unreachable = "http://127.0.0.1"
    reason, message = await fault_of(github)
    assert reason == "WebhookRefused"
    assert "isn't reachable over the public Internet (127.0.0.1)" in message
    assert "HEADRACE_SOURCES_PUBLIC_URL" in message


async def test_an_event_type_that_a_repository_does_not_have(github: GitHubServer) -> None:
    """GitHub names it."""
    reason, message = await fault_of(github, eventTypes=["push", "integration_installation"])
    assert reason == "WebhookRefused"
    assert "integration_installation" in message


async def test_no_answer_at_all(github: GitHubServer) -> None:
    """Nothing listens."""
    reason, message = await fault_of(github, githubAPIURL="http://127.0.0.1:1")
    assert reason == "GitHubUnavailable"
    assert "127.0.0.1:1" in message


async def test_it_recovers_by_itself(github: GitHubServer) -> None:
    """After a failure that has passed, and a rate limit that is over."""
    github.next.extend([Answer(500), Answer(403, {}, {"retry-after": "0"})])
    async with configured(github, context_of()):
        assert len(github.all_hooks) == 1


@pytest.mark.parametrize("key", ["token", "secret"])
@pytest.mark.parametrize("value", [None, b"\n", b"\xff"])
async def test_a_secret_that_cannot_be_used(
    github: GitHubServer, key: str, value: bytes | None
) -> None:
    """Missing, empty or no text: the condition is SecretsProvided."""
    secrets = {each: found for each, found in SECRETS.items() if each[1] != key}
    if value is not None:
        secrets["github", key] = value
    with pytest.raises(SourceFault) as caught:
        await GitHubSource(config(github), context_of(secrets=secrets)).run(RecordingEmit())
    assert caught.value.condition == "SecretsProvided"
    assert "default/github" in str(caught.value)


async def test_github_sends_again_what_was_not_taken(github: GitHubServer) -> None:
    """The process that keeps the webhook asks for it."""
    async with configured(github, context_of()):
        [hook] = github.all_hooks
        lost = github.note(hook["id"], "guid", 502, time.time() - 60)
        await until(lambda: github.count("POST", f"/deliveries/{lost.id}/attempts") == 1)


# Removal.


async def test_the_webhook_is_removed_with_the_source(github: GitHubServer) -> None:
    """And no other one."""
    github.add_hook(SCOPE, "http://127.0.0.1:1/other")
    context = context_of()
    async with configured(github, context):
        pass
    await GitHubSource(config(github), context).finalize()
    assert [each["config"]["url"] for each in github.all_hooks] == ["http://127.0.0.1:1/other"]
    assert context.published == {}


async def test_a_webhook_whose_id_was_not_stored_is_found_and_removed(
    github: GitHubServer,
) -> None:
    """The process had ended in between."""
    github.add_hook(SCOPE, URL)
    await GitHubSource(config(github), context_of()).finalize()
    assert github.all_hooks == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(401, {"message": "Bad credentials"}),
        Answer(403, {"message": "no right"}),
        Answer(404, {"message": "Not Found"}),
    ],
)
async def test_a_webhook_that_cannot_be_removed_is_left(
    github: GitHubServer, answer: Answer
) -> None:
    """The resource, or its whole namespace, must not stay forever."""
    own = github.add_hook(SCOPE, URL)
    github.next.append(answer)
    await GitHubSource(config(github), context_of(published={"webhookIDKey": str(own)})).finalize()


async def test_a_webhook_is_left_if_the_secret_is_gone(github: GitHubServer) -> None:
    """As in a namespace that is being deleted."""
    github.add_hook(SCOPE, URL)
    await GitHubSource(config(github), context_of(secrets={})).finalize()
    assert github.requests == []


async def test_removal_is_tried_again_while_github_does_not_answer(github: GitHubServer) -> None:
    """The fault says so."""
    own = github.add_hook(SCOPE, URL)
    github.next.append(Answer(503))
    source = GitHubSource(config(github), context_of(published={"webhookIDKey": str(own)}))
    with pytest.raises(SourceFault, match="GitHub answered 503"):
        await source.finalize()
    await source.finalize()
    assert github.all_hooks == []
