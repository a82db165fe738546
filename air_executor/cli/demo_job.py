"""The program of the tasks of `air-executor demo`: each looks at one folder and queues a task for each folder in it.

Runs inside a task, with the in-task API alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from air_executor import inputs, queue_tasks, set_result

SKIPPED = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib"}
SHOWN = 8


def count(folder: Path, root: Path) -> None:
    """Count the lines of the Python files in a folder, and queue the folders in it."""
    files = sorted(folder.glob("*.py"))
    lines = sum(file.read_bytes().count(b"\n") for file in files)
    sys.stdout.write(f"{lines:,} lines in {len(files)} files\n")
    queue_tasks(task_of(inner, root) for inner in sorted(folder.iterdir()) if is_source(inner))
    set_result({"lines": lines, "files": len(files)})


def is_source(folder: Path) -> bool:
    """Return whether a folder holds source files of its own."""
    return folder.is_dir() and folder.name not in SKIPPED and any(folder.glob("*.py"))


def task_of(folder: Path, root: Path) -> dict[str, Any]:
    """Return the task that looks at a folder; its id is the name of the package."""
    name = ".".join(folder.relative_to(root).parts)
    return {"id": name[-64:].lstrip(".-"), "command": [sys.executable, "-P", __file__, str(folder), str(root)]}


def total() -> None:
    """Print the largest packages of all that were found."""
    found = sorted(inputs().items(), key=lambda item: item[1]["lines"], reverse=True)
    rows = [("(modules)" if name == "discover" else name, of["lines"], of["files"]) for name, of in found]
    rest = rows[SHOWN:]
    table = [f"{'package':<24} {'lines':>10} {'files':>8}"]
    table += [f"{name:<24} {lines:>10,} {files:>8,}" for name, lines, files in rows[:SHOWN]]
    table.append(f"and {len(rest)} more packages with {sum(lines for _, lines, _ in rest):,} lines")
    sys.stdout.write("\n".join(table) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        count(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        total()
