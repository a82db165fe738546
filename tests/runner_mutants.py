"""Tests the tests of the native runner, by many small changes of its C sources, one at a time: `make mutants-runner`.

A change that compiles and that no test notices is printed: either it changes nothing that anyone can observe, or a test
is missing. Each worker has a copy of the checkout, in which it changes, builds and tests. Changes are of operators,
conditions, numbers and whole statements, found line by line, which is enough for how these sources are written.

    python -m tests.runner_mutants                 all changes
    python -m tests.runner_mutants helpers.c:40    those of a file, or of one line of it
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from air_executor.runner import native

COPIED = ("air_executor", "docs", "tests", "pyproject.toml", "README.md")
TESTS = ("tests/runner", "tests/backends/test_cgroups.py")
FIRST = {
    "helpers.c": ("tests/runner/test_helpers.py",),
    "cgroup.c": ("tests/backends/test_cgroups.py",),
}
"""Tests that notice most changes of a source."""
OPTIONS = (
    "-x",
    "-q",
    "-k",
    "not dash and not busybox and not bash",
    "-pno:cacheprovider",
    "--timeout=60",
    "--lanes=core",
)
AT_ONCE = 3 * (os.cpu_count() or 1)
"""Changes that are tested at once: tests of a runner mostly wait."""
LONGEST = 600.0
"""Seconds for the tests of one change: it can make a loop endless."""
SWAPS = {
    "==": "!=",
    "!=": "==",
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "&&": "||",
    "||": "&&",
    "+": "-",
    "-": "+",
    "|": "&",
}
_OPERATOR = re.compile(r"(?<= )(==|!=|<=|>=|<|>|&&|\|\||\+|-|\|)(?= )")
_NOT = re.compile(r"!(?=[a-z(*])")
_NUMBER = re.compile(r"(?<![\w.\"'])(\d+)(?![\w.\"'])")
_CONDITION = re.compile(r"\b(if|while) \((.*)\)(?= [^)]*$)")
_STATEMENT = re.compile(r"^(\s+)(?!return|const|static|struct|int|char|bool|size_t|ssize_t|pid_t|break|goto)(\S.*);$")
_LEAVES = re.compile(r"\b(break|continue);")
_TEXT = re.compile(r"\"(?:[^\"\\]|\\.)*\"|/\*.*?\*/")


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a line."""

    source: str
    line: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}\n  - {self.before.strip()}\n  + {self.after.strip()}"


def changes_of(source: str, text: str) -> Iterator[Change]:
    """Yield the changes of one source."""
    comment = False
    for number, line in enumerate(text.splitlines(), 1):
        opened = comment or line.lstrip().startswith("/*")
        comment = opened and "*/" not in line
        if not opened and line[:1] == " ":  # what is in no function is a declaration
            for after in dict.fromkeys(_changed(line)):
                yield Change(source, number, line, after)


def _changed(line: str) -> Iterator[str]:
    plain = _TEXT.sub(lambda found: "\0" * len(found[0]), line)
    for found in _OPERATOR.finditer(plain):
        yield line[: found.start()] + SWAPS[found[0]] + line[found.end() :]
    for found in _NOT.finditer(plain):
        yield line[: found.start()] + line[found.end() :]
    for found in _NUMBER.finditer(plain):
        yield line[: found.start()] + str(int(found[0]) + 1) + line[found.end() :]
    for found in _CONDITION.finditer(plain):
        yield f"{line[: found.start(2)]}!({line[found.start(2) : found.end(2)]}){line[found.end(2) :]}"
    for found in _LEAVES.finditer(plain):
        yield line[: found.start()] + ";" + line[found.end() :]
    if statement := _STATEMENT.match(plain):
        yield f"{statement[1]};"


class Workers:
    """Copies of the checkout, one for each thread that tests changes."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._of_thread = threading.local()

    def result(self, change: Change) -> str:
        """Return what became of a change: `noticed`, `unnoticed`, `endless` or `no program`."""
        copy = self._copy()
        source = copy / "air_executor" / "runner" / change.source
        whole = Path(native.FOLDER, change.source).read_text("utf-8")
        lines = whole.split("\n")
        lines[change.line - 1] = change.after
        source.write_text("\n".join(lines), "utf-8")
        try:
            return _tested(copy, FIRST.get(change.source, ()))
        finally:
            source.write_text(whole, "utf-8")

    def _copy(self) -> Path:
        found: Path | None = getattr(self._of_thread, "copy", None)
        if found is None:
            found = self._of_thread.copy = Path(tempfile.mkdtemp(dir=self._folder))
            for name in COPIED:
                if os.path.isdir(name):
                    shutil.copytree(name, found / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
                else:
                    shutil.copy(name, found / name)
        return found


def _tested(copy: Path, first: Sequence[str]) -> str:
    env = {**os.environ, "PYTHONPATH": str(copy)}
    build = [sys.executable, "air_executor/runner/native.py"]
    if subprocess.run(build, cwd=copy, env=env, capture_output=True, check=False).returncode != 0:
        return "no program"
    tests = [sys.executable, "-m", "pytest", *OPTIONS, *first, *TESTS]
    null = subprocess.DEVNULL
    process = subprocess.Popen(tests, cwd=copy, env=env, stdout=null, stderr=null, start_new_session=True)
    try:
        return "noticed" if process.wait(LONGEST) else "unnoticed"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "endless"


def main(words: Sequence[str]) -> int:
    """Test changes; return 1 if the tests fail without any."""
    wanted, _, line = (words[0] if words else "").partition(":")
    found = [
        change
        for source in native.SOURCES
        if source.endswith(".c") and wanted in ("", source)
        for change in changes_of(source, Path(native.FOLDER, source).read_text("utf-8"))
        if not line or change.line == int(line)
    ]
    results: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        workers = Workers(folder)
        if (before := pool.submit(workers.result, Change(native.SOURCES[0], 1, "", "/*")).result()) != "unnoticed":
            sys.stderr.write(f"the tests fail without any change: {before}\n")
            return 1
        for change, result in zip(found, pool.map(workers.result, found), strict=True):
            results[result] += 1
            if result not in {"noticed", "no program"}:
                sys.stdout.write(f"{result}: {change}\n")
                sys.stdout.flush()
    sys.stdout.write(f"{', '.join(f'{count} {result}' for result, count in sorted(results.items()))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
