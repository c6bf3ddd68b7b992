"""The command line: `python -m bench.sources`."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.support.headrace_under_test import HeadraceUnderTest, kafka_for_headrace

from bench.report import Results
from bench.sources.cases import CASES, measure_sources
from bench.sources.service import QUICK, Sizes


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.sources", description="Measure sources into a Broker."
    )
    parser.add_argument(
        "--quick", action="store_true", help="a quarter of the work, for a first look"
    )
    parser.add_argument("--json", type=Path, help="where the figures are written too")
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(
        prefix="headrace-bench-", ignore_cleanup_errors=True
    ) as temporary:
        directory = Path(temporary)
        with kafka_for_headrace(directory) as kafka:
            system = HeadraceUnderTest(
                kafka.bootstrap_servers, directory, env={"HEADRACE_LOG_LEVEL": "warning"}
            )
            try:
                sizes = QUICK if options.quick else Sizes()
                results = Results(sources=measure_sources(system.start(), sizes, options.cases))
            except BaseException:
                print(system.processes.report(), file=sys.stderr)
                raise
            finally:
                system.close()
    if options.json:
        options.json.write_text(results.as_json(), encoding="utf-8")
    print(results.as_json())
    print(results.as_text())


if __name__ == "__main__":
    main()
