"""Sources that send by the clock: PingSources and the timer."""

from dataclasses import replace

from bench.load import EVENT_BYTES
from bench.sources.figures import SourceFigures
from bench.sources.service import Service, source, source_to


def measure_ping(service: Service) -> SourceFigures:
    """Many PingSources, each with an event every second."""
    count = service.sizes.pings
    with service.running():
        topic = service.broker("ping")
        service.establish(
            *(
                source_to(
                    "ping",
                    "PingSource",
                    "sources.knative.dev/v1",
                    f"ping-{number}",
                    schedule="* * * * * *",
                    contentType="text/plain",
                    data="x" * EVENT_BYTES,
                )
                for number in range(count)
            )
        )
        found = service.watch(
            topic, warm_seconds=service.sizes.warm_seconds, outside="the schedules"
        )
        return replace(found, note=f"{count} sources, an event a second each")


def measure_timer(service: Service) -> SourceFigures:
    """The shortest period. One event is on its way at a time."""
    with service.running():
        topic = service.broker("timer")
        service.establish(
            source(
                "IntegrationSource",
                "sources.knative.dev/v1alpha1",
                "timer",
                timer={"period": 1, "message": "x" * EVENT_BYTES},
            )
        )
        return service.watch(
            topic,
            warm_seconds=service.sizes.warm_seconds,
            outside="one event at a time",
        )
