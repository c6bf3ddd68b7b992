"""The command line: `python -m bench.sources`."""

import argparse
from pathlib import Path

from tests.support.termination import interrupt_on_sigterm

from bench.installation import installation
from bench.report import Results
from bench.sources.cases import CASES, measure_sources
from bench.sources.service import QUICK, Sizes


def main() -> None:
    """Run from the command line."""
    interrupt_on_sigterm()
    parser = argparse.ArgumentParser(
        prog="python -m bench.sources", description="Measure sources into a Broker."
    )
    parser.add_argument(
        "--quick", action="store_true", help="a quarter of the work, for a first look"
    )
    parser.add_argument("--json", type=Path, help="where the figures are written too")
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes()
    with installation() as (system, _):
        results = Results(sources=measure_sources(system, sizes, options.cases))
    results.publish(options.json)


if __name__ == "__main__":
    main()
