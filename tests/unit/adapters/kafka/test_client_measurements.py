"""Errors of Kafka clients are counted by kind of client and name."""

from headrace.adapters.kafka.client_measurements import ClientMeasurements
from headrace.adapters.kafka.options import KafkaOptions


def test_errors_are_counted_by_client_and_name() -> None:
    """What is returned does not change afterwards."""
    measurements = ClientMeasurements()
    measurements.count_error("producer", "_TRANSPORT")
    measurements.count_error("producer", "_TRANSPORT")
    before = measurements.errors()
    measurements.count_error("consumer", "_TRANSPORT")
    assert {("producer", "_TRANSPORT"): 2} == before
    assert {("producer", "_TRANSPORT"): 2, ("consumer", "_TRANSPORT"): 1} == measurements.errors()


def test_measurements_are_no_part_of_what_options_are_equal_by() -> None:
    """Two services with the same settings have equal options and separate counts."""
    one, other = (KafkaOptions(bootstrap_servers="a:1") for _ in range(2))
    assert one == other
    assert one.measurements is not other.measurements
