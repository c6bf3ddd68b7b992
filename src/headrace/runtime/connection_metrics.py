"""Metrics of an HTTP server's connections, for the ingress and the management port."""

from headrace.adapters.http.server import ConnectionEvent, HttpServer
from headrace.runtime.metrics import Metrics


def measure_connections(metrics: Metrics, prefix: str, server: HttpServer) -> None:
    """Export metrics of connections: their number and limit, the bytes buffered for unfinished
    requests, and the actions that enforced a limit.
    """
    connections = metrics.gauge(f"{prefix}_connections", "Open connections.")
    limit = metrics.gauge(f"{prefix}_connections_max", "Limit of open connections.")
    heads = metrics.gauge(
        f"{prefix}_unfinished_head_bytes",
        "Bytes of unfinished heads and of requests sent ahead of their turn.",
    )
    bodies = metrics.gauge(f"{prefix}_unfinished_body_bytes", "Bytes of unfinished bodies.")
    limited = metrics.counter(
        f"{prefix}_connections_limited",
        "Connections refused, closed or cut for a limit.",
        ["reason"],
    )
    children = [(event, limited.labels(event.value)) for event in ConnectionEvent]

    def update() -> None:
        connections.set(server.connections)
        limit.set(server.limits.connections_max)
        heads.set(server.buffered_head_bytes)
        bodies.set(server.buffered_body_bytes)
        for event, child in children:
            child.value = server.connection_table.counts[event]

    metrics.before_scrape(update)
