"""`python -m benchmarks`: measure, print one table, write JSON. See docs/benchmarks.md."""

from __future__ import annotations

import argparse
import sys

from benchmarks import airflow, containers, crowd, jobs, latency, metrics, page, runner, scale, table, throughput
from benchmarks.place import volume

ROWS = (
    *runner.ROWS,
    *throughput.ROWS,
    *latency.ROWS,
    *scale.ROWS,
    *metrics.ROWS,
    *page.ROWS,
    *containers.ROWS,
    *jobs.ROWS,
)
ON_REQUEST = (*crowd.ON_REQUEST, *jobs.ON_REQUEST, *airflow.ROWS)
"""Rows that take so long that they are measured only where `--only` names them."""


def main() -> int:
    """Measure what was asked for; 0 whether figures are reached or not, because they are the machine's too."""
    names = [row.name for row in (*ROWS, *ON_REQUEST)]
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure speed and memory of Air-Executor.")
    parser.add_argument("output", nargs="?", default="benchmarks.json", help="where the JSON goes (%(default)s)")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="little work, few repetitions: to see that it works")
    parser.add_argument("--folder", help="where the state directories go: the volume that is measured")
    arguments = parser.parse_args()
    before = table.machine()
    lines: list[table.Line] = []
    with volume(arguments.folder) as root:
        for row in ROWS if arguments.only is None else (*ROWS, *ON_REQUEST):
            if arguments.only is None or row.name in arguments.only:
                print(f"measuring {row.name} …", file=sys.stderr, flush=True)
                lines += row.measure(quick=arguments.quick)
                table.write(arguments.output, lines, before)  # what is measured stays, whatever becomes of the rest
        before |= {"volume": table.kind_of_volume(root)}
    print(table.show(lines))
    facts = ", ".join(f"{key} {value}" for key, value in before.items())
    print(f"\n{facts}; load afterwards {table.machine()['load']}")
    table.write(arguments.output, lines, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
