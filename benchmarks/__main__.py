"""`python -m benchmarks`: measure row by row, print each and write JSON. See docs/benchmarks.md."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import (
    airflow,
    containers,
    cost_meter,
    crowd,
    jobs,
    latency,
    metrics,
    page,
    runner,
    scale,
    schedules,
    server,
    state,
    table,
    throughput,
    transport,
    waiting,
)
from benchmarks.place import volume

ROWS = (
    *runner.ROWS,
    *throughput.ROWS,
    *latency.ROWS,
    *state.ROWS,
    *scale.ROWS,
    *schedules.ROWS,
    *waiting.ROWS,
    *metrics.ROWS,
    *page.ROWS,
    *server.ROWS,
    *containers.ROWS,
    *jobs.ROWS,
)
ON_REQUEST = (
    *cost_meter.ON_REQUEST,
    *crowd.ON_REQUEST,
    *jobs.ON_REQUEST,
    *transport.ON_REQUEST,
    *schedules.ON_REQUEST,
    *airflow.ROWS,
)
"""Rows that take so long that they are measured only where `--only` names them."""


def main() -> int:
    """Measure what was asked for; 1 if a row failed, 0 even if figures are not reached: they are the machine's, too."""
    names = [row.name for row in (*ROWS, *ON_REQUEST)]
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure speed and memory of Air-Executor.")
    parser.add_argument("output", nargs="?", default="benchmarks.json", help="where the JSON goes (%(default)s)")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="little work, few repetitions: to see that it works")
    parser.add_argument("--folder", help="where the state directories go: the volume that is measured")
    arguments = parser.parse_args()
    rows = [row for row in (*ROWS, *ON_REQUEST) if row.name in arguments.only] if arguments.only else ROWS
    before = table.machine()
    with volume(arguments.folder) as root:
        before |= {"volume": table.kind_of_volume(root)}
        failed = _measure(rows, arguments.output, before, quick=arguments.quick)
    facts = ", ".join(f"{key} {value}" for key, value in before.items())
    print(f"\n{facts}; load afterwards {table.machine()['load']}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _measure(rows: Sequence[table.Row], output: str, before: Mapping[str, Any], *, quick: bool) -> list[str]:
    """Measure, print and write row by row, so that what is measured stays; return the names of those that failed."""
    lines: list[table.Line] = []
    failed: list[str] = []
    print(table.HEADER, flush=True)
    for row in rows:
        print(f"measuring {row.name} …", file=sys.stderr, flush=True)
        try:
            found = row.measure(quick=quick)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other rows can be measured
            traceback.print_exc()  # with the manager's last words
            failed.append(row.name)
            print(table.columns(row.name, "FAILED", rest=str(error).partition("\n")[0]), flush=True)
        else:
            lines += found
            print(*found, sep="\n", flush=True)
        table.write(output, lines, before, failed)
    return failed


if __name__ == "__main__":
    sys.exit(main())
