"""The metrics of Kafka clients and of the routing table."""

from headrace.adapters.kafka.client_measurements import ClientMeasurements
from headrace.domain.routing import RoutingTable
from headrace.runtime.kafka_metrics import measure_kafka
from headrace.runtime.metrics import Metrics


def _value(metrics: Metrics, sample: str) -> float:
    lines = metrics.expose()[0].decode().splitlines()
    (line,) = (each for each in lines if each.startswith(f"{sample} "))
    return float(line.rpartition(" ")[2])


def test_errors_of_all_services_of_a_process_are_added_up() -> None:
    """Each counts once, however often the page is written."""
    metrics, one, other = Metrics(process=False), ClientMeasurements(), ClientMeasurements()
    measure_kafka(metrics, "ingress", RoutingTable(), one)
    measure_kafka(metrics, "dispatcher", RoutingTable(), other)
    sample = 'headrace_kafka_errors_total{client="producer",error="_ALL_BROKERS_DOWN"}'
    assert 0.0 == _value(metrics, sample)
    one.count_error("producer", "_ALL_BROKERS_DOWN")
    other.count_error("producer", "_ALL_BROKERS_DOWN")
    assert [2.0, 2.0] == [_value(metrics, sample) for _ in range(2)]
    other.count_error("producer", "_ALL_BROKERS_DOWN")
    assert 3.0 == _value(metrics, sample)


def test_the_time_until_kafka_has_a_record_is_a_histogram() -> None:
    """Observed by the log."""
    metrics, measurements = Metrics(process=False), ClientMeasurements()
    measure_kafka(metrics, "ingress", RoutingTable(), measurements)
    measurements.observe_produce(0.004)
    assert 1.0 == _value(metrics, "headrace_kafka_produce_seconds_count")
    assert 1.0 == _value(metrics, 'headrace_kafka_produce_seconds_bucket{le="0.005"}')


def test_the_position_in_the_routing_table_is_shown() -> None:
    """As it is when the page is written."""
    metrics, table = Metrics(process=False), RoutingTable()
    measure_kafka(metrics, "ingress", table, None)
    sample = 'headrace_routing_offset{component="ingress"}'
    assert -1.0 == _value(metrics, sample)
    table.position = 7
    assert 7.0 == _value(metrics, sample)
