"""`make chaos`: the ledger run and the pressure run, their reports as table and JSON; fails when an
invariant is violated.

python -m tests.chaos --seconds 300 --seed N --group-protocol consumer
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from pathlib import Path

from headrace.adapters.kafka.options import GroupProtocol
from tests.chaos.pressure import run_pressure
from tests.chaos.run import run
from tests.support.report import Report


async def both(options: argparse.Namespace, directory: Path) -> dict[str, Report]:
    """One run after the other; the reports by name."""
    reports: dict[str, Report] = {}
    protocol = GroupProtocol(options.group_protocol)
    for name, perform, seconds in (
        ("ledger", run, options.seconds),
        ("pressure", run_pressure, options.pressure_seconds),
    ):
        if seconds > 0:
            place = directory / name
            place.mkdir(parents=True, exist_ok=True)
            reports[name] = await perform(seconds, options.seed, place, protocol=protocol)
            print(f"{name} run\n\n{reports[name].as_text()}\n", flush=True)
    return reports


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--seconds",
        type=float,
        default=300.0,
        help="of load with faults; 0 leaves the ledger run out",
    )
    parser.add_argument(
        "--pressure-seconds",
        type=float,
        default=120.0,
        help="with bad subscribers; 0 leaves the pressure run out",
    )
    parser.add_argument(
        "--group-protocol",
        choices=[each.value for each in GroupProtocol],
        default=GroupProtocol.CLASSIC.value,
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument(
        "--json", type=Path, help="where the reports are written, instead of printing them"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        help="directory for logs, ledger and arrivals; default: a temporary one",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(
        prefix="headrace-chaos-", ignore_cleanup_errors=True
    ) as temporary:
        reports = asyncio.run(both(options, options.keep or Path(temporary)))
    text = json.dumps(
        {name: json.loads(report.as_json()) for name, report in reports.items()}, indent=2
    )
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    else:
        print(text)
    for name, report in reports.items():
        print(
            f"{name} run:"
            f" {'every invariant holds' if report.ok else f'{len(report.violations)} violations'}"
        )
    sys.exit(0 if all(report.ok for report in reports.values()) else 1)


if __name__ == "__main__":
    main()
