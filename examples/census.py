"""Count the modules, lines, functions and classes of the interpreter's standard library, one task per package.

The tasks of `census.yaml` run this. Only `queue_tasks`, `set_result` and `inputs` belong to Air-Executor and need a
running task. You can call the other functions in any Python shell.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import sysconfig
import warnings
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from air_executor import inputs, queue_tasks, set_result

STDLIB = Path(sysconfig.get_paths()["stdlib"])
MODULES = "(modules)"
"""Name for the top-level modules without a package."""
TOO_BIG = 1_500_000
"""Bytes of source above which a task splits its work into two tasks."""
FIGURES = ("modules", "lines", "functions", "classes", "unreadable")


def discover() -> None:
    """Queue one task for each package."""
    packages = find_packages(STDLIB)
    queue_tasks([count_task(package) for package in packages])
    set_result({"packages": len(packages)})
    print(f"{len(packages)} packages in {STDLIB}")


def count(package: str, start: int, stop: int | None) -> None:
    """Count files `start` to `stop` of a package, or queue one task per half if they are too big."""
    files = find_sources(STDLIB, package)[start:stop]
    middle = find_middle([file.stat().st_size for file in files])
    if middle:
        cut, end = start + middle, start + len(files)
        queue_tasks([count_task(package, start, cut), count_task(package, cut, end)])
        print(f"{package}: {len(files)} files are too big for one task, split in two")
        return
    figures = count_files(files)
    set_result({"package": package, **figures})
    print(f"{package}: {figures['lines']} lines in {figures['modules']} modules")


def merge() -> None:
    """Write the results of all tasks as one table, to the log and to the workspace."""
    rows = add_up(inputs().values())
    totals = {figure: sum(row[figure] for row in rows.values()) for figure in FIGURES}
    table = draw_table(rows, totals)
    workspace = Path(os.environ["AIR_WORKSPACE"])
    (workspace / "census.md").write_text(table, encoding="utf-8")
    (workspace / "census.json").write_text(json.dumps({"packages": rows, "total": totals}, indent=2), encoding="utf-8")
    set_result({"packages": len(rows), **totals})
    print(table, end="")


def count_task(package: str, start: int = 0, stop: int | None = None) -> dict[str, Any]:
    """Return the task that counts a package, or a part of it if `stop` is given."""
    command = ["python", "examples/census.py", "count", package]
    if stop is None:
        return {"id": task_id(package), "command": command}
    return {"id": f"{task_id(package)}-{start}-{stop}", "command": [*command, str(start), str(stop)]}


def task_id(package: str) -> str:
    """Return a valid task id, unique per package.

    Any name that is not made of lower-case letters and digits (`_pyrepl`) gets a checksum, so two names never share an
    id.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", package.lower())[:14].strip("-")
    if slug == package:
        return f"count-{slug}"
    return "-".join(filter(None, ["count", slug, f"{zlib.crc32(package.encode()):08x}"]))


def find_packages(stdlib: Path) -> list[str]:
    """Return the top-level packages with source files, and `MODULES` if top-level modules exist."""
    names = sorted(entry.name for entry in stdlib.iterdir() if entry.is_dir() and entry.name.isidentifier())
    return [name for name in [*names, MODULES] if name != "__pycache__" and find_sources(stdlib, name)]


def find_sources(stdlib: Path, package: str) -> list[Path]:
    """Return a package's source files in a fixed order, so a range of numbers always means the same files."""
    return sorted(stdlib.glob("*.py") if package == MODULES else (stdlib / package).rglob("*.py"))


def find_middle(sizes: Sequence[int]) -> int:
    """Return the file at which to split into halves of about equal size, or 0 for no split."""
    sums = list(accumulate(sizes))
    if len(sums) < 2 or sums[-1] <= TOO_BIG:  # noqa: PLR2004 - a single file cannot be split
        return 0
    return min(bisect_left(sums, sums[-1] / 2) + 1, len(sums) - 1)


def count_files(files: Iterable[Path]) -> dict[str, int]:
    """Return the figures of source files. Files that this Python cannot parse count only as lines."""
    figures = dict.fromkeys(FIGURES, 0)
    for file in files:
        source = file.read_bytes()
        figures["modules"] += 1
        figures["lines"] += source.count(b"\n")
        try:
            with warnings.catch_warnings(action="ignore"):  # test suites contain invalid escapes on purpose
                tree = ast.parse(source)
        except (SyntaxError, ValueError):
            figures["unreadable"] += 1
            continue
        for node in ast.walk(tree):
            figures["functions"] += isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            figures["classes"] += isinstance(node, ast.ClassDef)
    return figures


def add_up(results: Iterable[Any]) -> dict[str, dict[str, int]]:
    """Return the figures by package, biggest first. Skips results of tasks that counted nothing."""
    rows: dict[str, dict[str, int]] = {}
    for result in results:
        if isinstance(result, dict) and "package" in result:
            row = rows.setdefault(result["package"], dict.fromkeys(FIGURES, 0))
            for figure in FIGURES:
                row[figure] += result[figure]
    return dict(sorted(rows.items(), key=lambda item: -item[1]["lines"]))


def draw_table(rows: Mapping[str, Mapping[str, int]], totals: Mapping[str, int]) -> str:
    """Return a Markdown table with aligned columns."""
    lines = [["package", *FIGURES]]
    lines += [[name, *(f"{row[figure]:,}" for figure in FIGURES)] for name, row in [*rows.items(), ("total", totals)]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    form = " | ".join([f"{{:<{widths[0]}}}", *(f"{{:>{width}}}" for width in widths[1:])])
    return "".join(f"| {form.format(*line)} |\n" for line in lines)


def main() -> None:
    """Run the step named on the command line."""
    parser = argparse.ArgumentParser(description="One step of the census.")
    parser.add_argument("step", choices=["discover", "count", "merge"])
    parser.add_argument("package", nargs="?", help="package to count")
    parser.add_argument("start", type=int, nargs="?", default=0, help="number of the first file")
    parser.add_argument("stop", type=int, nargs="?", help="number of the file after the last one")
    arguments = parser.parse_args()
    if arguments.step == "count":
        count(arguments.package or parser.error("count needs a package"), arguments.start, arguments.stop)
    else:
        {"discover": discover, "merge": merge}[arguments.step]()


if __name__ == "__main__":
    main()
