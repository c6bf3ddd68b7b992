"""A worker process, as `headrace_ingress.workers` starts it: `python -m headrace_ingress STATE_FD`."""

import sys

from headrace.runtime.logging import configure
from headrace.runtime.service import live
from headrace_ingress.app import run_worker
from headrace_ingress.worker import ParentLink, read_orders


def main() -> int:
    """Read the orders, live by them."""
    orders = read_orders(sys.stdin.fileno())
    configure(orders.logs, service="ingress")
    link = ParentLink(orders=sys.stdin.fileno(), state=int(sys.argv[1]))
    return live(lambda: run_worker(orders.ingress, orders.kafka, link))


if __name__ == "__main__":
    sys.exit(main())
