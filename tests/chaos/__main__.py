"""`make chaos`: the ledger run, the pressure run and the channel runs, their reports as table and
JSON; fails when an invariant is violated.

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
from tests.chaos.channels import lasting_violations, run_channels
from tests.chaos.pressure import run_pressure
from tests.chaos.run import run
from tests.support.report import Report
from tests.support.termination import interrupt_on_sigterm

CHANNEL_KINDS = ("KafkaChannel", "NatsJetStreamChannel")


async def perform_all(options: argparse.Namespace, directory: Path) -> dict[str, Report]:
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
    for kind in CHANNEL_KINDS if options.channel_seconds > 0 else ():
        place = directory / kind
        place.mkdir(parents=True, exist_ok=True)
        reports[kind] = await run_channels(kind, options.channel_seconds, options.seed, place)
        print(f"{kind} run\n\n{reports[kind].as_text()}\n", flush=True)
    return reports


def violations(name: str, report: Report) -> int:
    """How many violations of what a run promises."""
    found = lasting_violations(report) if name in CHANNEL_KINDS else report.violations
    return len(found)


def main() -> None:
    """Run from the command line."""
    interrupt_on_sigterm()
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
        "--channel-seconds",
        type=float,
        default=60.0,
        help="through channels and flows, for each kind of channel; 0 leaves these runs out",
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
        reports = asyncio.run(perform_all(options, options.keep or Path(temporary)))
    text = json.dumps(
        {name: json.loads(report.as_json()) for name, report in reports.items()}, indent=2
    )
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    else:
        print(text)
    counts = {name: violations(name, report) for name, report in reports.items()}
    for name, count in counts.items():
        print(f"{name} run: {f'{count} violations' if count else 'every invariant holds'}")
    sys.exit(1 if any(counts.values()) else 0)


if __name__ == "__main__":
    main()
