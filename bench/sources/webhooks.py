"""Sources that receive requests: wrk sends them with 64 connections, each answered when its event
is stored.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.support.github_server import github_server, signature

from bench.load import EVENT_BYTES, Sent, run_wrk, wrk
from bench.sources.figures import SourceFigures
from bench.sources.service import NAMESPACE, Service, Unavailable, source

DELIVERIES = Path(__file__).parents[1] / "wrk/deliveries.lua"
OUTSIDE = "wrk, on the same cores"
SECRET = "sesame"
REPOSITORY = "knative/docs"


def measure_webhook(service: Service) -> SourceFigures:
    """Requests that are CloudEvents, without a signature."""
    _need_wrk()
    with service.running():
        service.broker("webhook")
        service.establish(source("WebhookSource", "sources.headrace.dev/v1alpha1", "webhook"))
        path = f"/{NAMESPACE}/webhook"
        return _measure(service, lambda seconds: wrk(service.port, path, seconds=seconds))


def measure_github(service: Service) -> SourceFigures:
    """Signed pushes. The webhook is registered at a server that speaks GitHub's API; wrk sends what
    GitHub would send to it.
    """
    _need_wrk()
    with github_server() as github, service.running():
        service.broker("github")
        service.secret("github", accessToken=github.token, secretToken=SECRET)
        service.establish(
            source(
                "GitHubSource",
                "sources.knative.dev/v1alpha1",
                "github",
                ownerAndRepository=REPOSITORY,
                eventTypes=["push"],
                accessToken={"secretKeyRef": {"name": "github", "key": "accessToken"}},
                secretToken={"secretKeyRef": {"name": "github", "key": "secretToken"}},
                githubAPIURL=github.url,
            )
        )
        [hook] = github.all_hooks
        path = "/" + str(hook["config"]["url"]).split("/", 3)[3]
        body = _push()
        headers = {
            "content-type": "application/json",
            "user-agent": "GitHub-Hookshot/044aadd",
            "x-github-event": "push",
            "x-github-hook-id": str(hook["id"]),
            **signature(SECRET, body.encode()),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        arguments = [path, lines, "x-github-delivery", body]
        return _measure(
            service,
            lambda seconds: run_wrk(service.port, DELIVERIES, arguments, seconds=seconds),
        )


def _push() -> str:
    """A push as short as the events of the other cases; those of GitHub are 5 to 20 KiB."""
    payload = {
        "ref": "refs/heads/main",
        "compare": f"https://github.com/{REPOSITORY}/compare/1f0d...9e2c",
        "created": False,
        "deleted": False,
        "forced": False,
        "pusher": {"name": "octocat", "email": "octocat@example.com"},
        "sender": {"login": "octocat", "id": 583231},
        "repository": {"name": "docs", "full_name": REPOSITORY, "owner": {"login": "knative"}},
        "commits": [],
    }
    length = len(json.dumps({**payload, "after": ""}))
    return json.dumps({**payload, "after": "x" * (EVENT_BYTES - length)})


def _need_wrk() -> None:
    if shutil.which("wrk") is None:
        raise Unavailable("wrk is not installed: apt-get install wrk")


def _measure(service: Service, send: Callable[[int], Sent]) -> SourceFigures:
    send(service.sizes.warm_seconds)
    meter = service.meter()
    sent = send(service.sizes.seconds)
    cpus = meter.share()
    if sent.refused or sent.errors:
        raise RuntimeError(
            f"{sent.refused} of {sent.requests} requests were refused, {sent.errors} failed"
        )
    return SourceFigures(
        events=sent.requests,
        per_second=sent.rate,
        cpu_us=meter.micros_per(sent.requests),
        cpus=cpus,
        rss_mib=meter.rss_mib(),
        outside=OUTSIDE,
    )
