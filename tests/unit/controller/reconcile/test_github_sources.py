"""GitHubSource: the configuration of its adapter, its conditions, and its end."""

from typing import Any

from headrace.domain.ports import Instance
from headrace.domain.routing import EventSource
from headrace.domain.source_report import SourceCondition, SourceReport
from headrace.resources.kinds import GITHUB_SOURCE, LEGACY_GITHUB_SOURCE
from headrace.resources.resource import Resource, ResourceKind
from headrace_sources.adapters.github import GitHubConfig
from tests.unit.controller.harness import NAMESPACE, ControllerHarness, broker, manifest, settled
from tests.unit.resources.test_github_source import SECRETS

BROKER = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}
SPEC = {"ownerAndRepository": "knative/docs", "eventTypes": ["push"], **SECRETS}
SERVICES = ("ingress", "dispatcher", "sources")
TRUE = SourceCondition(True)
CONDITIONS = {"Deployed": TRUE, "SecretsProvided": TRUE, "WebhookConfigured": TRUE}


def reported(harness: ControllerHarness, uid: str, report: SourceReport) -> Instance:
    """A process of the sources service that reports one source."""
    applied = len(harness.routing.records) - 1
    return Instance(
        "sources-1", "sources", applied, 0, backends=harness.served, sources={uid: report}
    )


def source(kind: ResourceKind = GITHUB_SOURCE, **fields: Any) -> Resource:
    """A source that sends to the Broker."""
    spec = {"sink": {"ref": BROKER}, **SPEC, **fields.pop("spec", {})}
    return manifest(kind, "github", spec=spec, **fields)


def route_of(harness: ControllerHarness) -> EventSource:
    """The one record of a source in the routing table."""
    [found] = [each for each in harness.routes().values() if isinstance(each, EventSource)]
    return found


async def test_the_adapter_gets_the_fields_and_references_to_secrets() -> None:
    """As its configuration takes them."""
    harness = await settled(broker(), source(spec={"secure": True}), services=SERVICES)
    route = route_of(harness)
    assert route.adapter == "github"
    config = GitHubConfig.model_validate(dict(route.config))
    assert config.owner_and_repository == "knative/docs"
    assert config.event_types == ("push",)
    assert (config.access_token.key, config.secret_token.key) == ("token", "secret")
    assert config.api_url == "https://api.github.com/"
    assert config.secure is True
    assert config.naming == "knative"


async def test_an_annotation_chooses_the_names() -> None:
    """Those of the CloudEvents project; the types are not known in advance then."""
    chosen = source(annotations={"headrace.dev/event-names": "cloudevents"})
    harness = await settled(broker(), chosen, services=SERVICES)
    assert route_of(harness).config["naming"] == "cloudevents"
    assert "ceAttributes" not in harness.status(GITHUB_SOURCE, "github")


async def test_the_source_of_knative_0_5_has_the_same_adapter() -> None:
    """Its sink is the reference itself."""
    legacy = source(LEGACY_GITHUB_SOURCE, spec={"sink": BROKER})
    harness = await settled(broker(), legacy, services=SERVICES)
    route = route_of(harness)
    assert route.adapter == "github"
    assert route.sink is not None
    assert route.sink.url.endswith(f"/{NAMESPACE}/default")
    assert harness.condition(LEGACY_GITHUB_SOURCE, "github", "SinkProvided") == ("True", "")


async def test_a_source_without_a_sink_says_so() -> None:
    """Knative's schema does not require one."""
    harness = await settled(manifest(GITHUB_SOURCE, "github", spec=SPEC), services=SERVICES)
    assert harness.condition(GITHUB_SOURCE, "github", "SinkProvided") == ("False", "Missing")
    assert not [each for each in harness.routes().values() if isinstance(each, EventSource)]


async def test_a_secret_that_is_not_named() -> None:
    """Knative's schema does not require it either."""
    harness = await settled(broker(), source(spec={"accessToken": {}}), services=SERVICES)
    found = harness.condition(GITHUB_SOURCE, "github", "SecretsProvided")
    assert found == ("False", "SecretNotGiven")
    assert "spec.accessToken" in harness.message(GITHUB_SOURCE, "github", "SecretsProvided")


async def test_the_id_of_the_webhook_is_kept_and_removed_with_it() -> None:
    """The finalizer is there until the process has removed the webhook."""
    harness = await settled(broker(), source(), services=SERVICES)
    route = route_of(harness)
    published = {"webhookIDKey": "7", "webhookAddress": "https://api.example/hooks/7"}
    report = SourceReport(route.generation, CONDITIONS, published)
    await harness.instances.report(reported(harness, route.uid, report))
    await harness.settle()
    assert harness.condition(GITHUB_SOURCE, "github") == ("True", "")
    status = harness.status(GITHUB_SOURCE, "github")
    assert {name: status[name] for name in published} == published
    assert route_of(harness).published == published
    await harness.delete(GITHUB_SOURCE, "github")
    await harness.settle()
    assert route_of(harness).finalizing
    assert harness.find(GITHUB_SOURCE, "github") is not None
    report = SourceReport(route.generation, finalized=True)
    await harness.instances.report(reported(harness, route.uid, report))
    await harness.settle()
    assert harness.find(GITHUB_SOURCE, "github") is None
    assert not [each for each in harness.routes().values() if isinstance(each, EventSource)]
