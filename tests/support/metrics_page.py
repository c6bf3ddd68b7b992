"""A metrics page in the format OpenMetrics, as a strict scraper reads it."""

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar, Sample

ACCEPT = "application/openmetrics-text;version=1.0.0"


def samples(page: str) -> list[Sample]:
    """All samples of a page."""
    return [
        sample
        for family in text_string_to_metric_families(page)  # type: ignore[no-untyped-call]
        for sample in family.samples
    ]


def exemplars(page: str, histogram: str, **labels: str) -> dict[str, Exemplar]:
    """The exemplars of a histogram, by upper limit of the bucket. `labels` select one of its time
    series.
    """
    found: dict[str, Exemplar] = {}
    for sample in samples(page):
        limit, exemplar = sample.labels.get("le", ""), sample.exemplar
        selected = sample.name == f"{histogram}_bucket" and labels.items() <= sample.labels.items()
        if selected and exemplar is not None:
            assert limit not in found, "several time series have exemplars"
            found[limit] = exemplar
    return found
