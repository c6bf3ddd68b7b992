"""The controller's metrics."""

from collections import Counter
from collections.abc import Callable

from headrace.domain.routing import EventSource
from headrace.resources.conditions import READY, condition_of
from headrace.resources.control_ports import ResourceStore
from headrace.runtime.metrics import Metrics
from headrace_controller.reconcile_loop import ReconcileLoop


def register_controller_metrics(
    metrics: Metrics, store: ResourceStore, loop: ReconcileLoop
) -> Callable[[], None]:
    """Register the controller's metrics; their values are read when they are scraped."""
    writer = metrics.gauge(
        "controller_writer", "1 while this controller is the leader, 0 while it is a standby"
    )
    converged = metrics.gauge(
        "controller_converged",
        "1 when nothing is left to do, 0 while it executes steps or waits",
    )
    waiting = metrics.gauge("controller_waits", "conditions that the newest plan waits for")
    failed_steps = metrics.gauge(
        "controller_refusals",
        "topics, groups and objects for which Kafka or the store rejected a step",
    )
    resources = metrics.gauge(
        "controller_resources", "resources by kind and Ready status", ["kind", "ready"]
    )
    sources = metrics.gauge(
        "controller_sources",
        "sources that a process of the sources service has to run, or to remove outside; not those"
        " that are paused",
    )
    steps = metrics.gauge(
        "controller_plan_steps", "steps of the newest plan, until all of them are executed"
    )
    reconciles = metrics.counter(
        "controller_reconciles",
        "iterations of the reconcile loop, each for all resources, by result",
        ["result"],
    )
    succeeded, failed = reconciles.labels("success"), reconciles.labels("error")
    errors = metrics.counter(
        "controller_resource_errors",
        "resources that an iteration could not decide because of an internal error, by kind",
        ["kind"],
    )
    for reconciled in loop.reconcilers.kinds:
        errors.labels(reconciled.kind)  # From 0, so that the first increase is seen.
    loop.observe_turn = (
        metrics.histogram(
            "controller_reconcile_seconds",
            "seconds that an iteration of the reconcile loop took: observe, decide, execute",
        )
        .labels()
        .observe
    )

    def update() -> None:
        writer.set(0 if store.epoch is None else 1)
        converged.set(1 if loop.converged else 0)
        waiting.set(len(loop.waiting_for))
        failed_steps.set(len(loop.executor.failed_steps))
        steps.set(loop.steps)
        succeeded.value, failed.value = loop.turns, loop.failed_turns
        for name, count in loop.resource_errors.items():
            errors.labels(name).value = count
        routes = loop.observer.routes().values()
        sources.set(sum(isinstance(each, EventSource) and not each.paused for each in routes))
        for kind in loop.reconcilers.kinds:
            found = Counter(_ready(each.status) for each in store.list(kind))
            for status in ("True", "False", "Unknown"):
                resources.labels(kind.kind, status).set(found[status])

    metrics.before_scrape(update)
    return update


def _ready(status: object) -> str:
    condition = condition_of(status if isinstance(status, dict) else {}, READY)
    return str(condition.status) if condition else "Unknown"
