"""The metrics of the controller."""

from headrace.adapters.memory.admin import MemoryTopicAdmin
from headrace.domain.errors import LogUnavailable
from headrace.resources.control_ports import ClusterDescription
from headrace.runtime.metrics import Metrics
from headrace_controller.metrics import register_controller_metrics
from tests.support.wait_until import wait_until_async
from tests.unit.controller.harness import ControllerHarness, broker
from tests.unit.controller.reconcile.test_ping_sources import ping


def _value(metrics: Metrics, sample: str) -> float:
    lines = metrics.expose()[0].decode().splitlines()
    (line,) = (each for each in lines if each.startswith(f"{sample} "))
    return float(line.rpartition(" ")[2])


class UnavailableAdmin(MemoryTopicAdmin):
    """An administration that fails while `away` is set."""

    away = True

    async def cluster(self) -> ClusterDescription:
        """Fail, or answer."""
        if self.away:
            raise LogUnavailable("Kafka is away")
        return await super().cluster()


async def test_iterations_are_counted_by_result_and_timed() -> None:
    """Failed ones too."""
    admin = UnavailableAdmin(brokers=3)
    harness = ControllerHarness(admin=admin)
    await harness.restart()
    metrics = Metrics(process=False)
    register_controller_metrics(metrics, harness.store, harness.loop)
    success, error = (
        f'headrace_controller_reconciles_total{{result="{result}"}}'
        for result in ("success", "error")
    )
    assert [0.0, 0.0] == [_value(metrics, each) for each in (success, error)]
    await harness.loop.start()
    await wait_until_async(lambda: _value(metrics, error) > 0, 30.0, "a failed iteration")
    admin.away = False
    await wait_until_async(lambda: _value(metrics, success) > 0, 30.0, "an iteration")
    await harness.loop.stop()
    timed = _value(metrics, "headrace_controller_reconcile_seconds_count")
    assert timed >= _value(metrics, success) + _value(metrics, error)
    assert 0.0 == _value(metrics, "headrace_controller_plan_steps")


async def test_resources_that_cannot_be_decided_are_counted_by_kind() -> None:
    """From 0, so that the first increase is seen."""
    harness = ControllerHarness()
    await harness.restart()
    metrics = Metrics(process=False)
    register_controller_metrics(metrics, harness.store, harness.loop)
    sample = 'headrace_controller_resource_errors_total{kind="Broker"}'
    assert 0.0 == _value(metrics, sample)
    harness.loop.resource_errors["Broker"] += 1
    assert 1.0 == _value(metrics, sample)


async def test_sources_that_have_to_run_are_counted() -> None:
    """Whether a process runs them or not; those that are paused do not count."""
    harness = ControllerHarness()
    await harness.restart()
    metrics = Metrics(process=False)
    register_controller_metrics(metrics, harness.store, harness.loop)
    sample = "headrace_controller_sources"
    assert 0.0 == _value(metrics, sample)
    await harness.apply(broker(), ping())
    await harness.settle()
    assert 1.0 == _value(metrics, sample)
    await harness.apply(ping({"headrace.dev/paused": "true"}))
    await harness.settle()
    assert 0.0 == _value(metrics, sample)
