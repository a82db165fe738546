"""Tests the changes that mutmut has made, each in a fork of one process that has collected all tests: `make mutants`.

By itself mutmut collects the tests of a function anew for each of its changes, which takes a second; most changes are
noticed within milliseconds. Results go where `mutmut results` and `mutmut show` look for them. Runs in the folder
`mutants` that `mutmut run` has made; its options for pytest are those of `[tool.mutmut]`.
"""

from __future__ import annotations

import fnmatch
import gc
import itertools
import json
import math
import os
import resource
import signal
import sys
import time
import tomllib
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

AT_MOST = 5.0
"""Seconds that the tests of one change may take together, as measured without it; slower ones are left out."""
PATIENCE = 10.0
"""Seconds of CPU that they may take beyond three times as long: a change can make a loop endless."""
WAITING = 6.0
"""How many times as long they may wait for something: a machine with other work takes its time."""
UNDER_TEST = "MUTANT_UNDER_TEST"
"""The variable that tells the changed code which change is in force."""
_NOTICED, _UNNOTICED, _UNTESTED, _ENDLESS = 1, 0, 33, 36
"""Results, as mutmut stores them."""
_WORDS = {_NOTICED: "noticed", _UNNOTICED: "unnoticed", _UNTESTED: "without a test", _ENDLESS: "endless"}


class Changes:
    """All changes and their results, in mutmut's files beside the changed modules."""

    def __init__(self) -> None:
        self._files = {path: json.loads(path.read_text("utf-8")) for path in sorted(Path().rglob("*.py.meta"))}

    def named(self, pattern: str) -> list[tuple[Path, str]]:
        """Return the changes whose names match, with the file that has their results."""
        names = ((path, name) for path, found in self._files.items() for name in found["exit_code_by_key"])
        return [(path, name) for path, name in names if fnmatch.fnmatch(name, pattern)]

    def note(self, path: Path, name: str, result: int) -> None:
        """Note a result."""
        self._files[path]["exit_code_by_key"][name] = result

    def save(self) -> None:
        """Write all results."""
        for path, found in self._files.items():
            path.write_text(json.dumps(found, indent=4), "utf-8")


@dataclass
class _Trial:
    """A process that tests one change."""

    path: Path
    name: str
    read_fd: int
    """Where it says which test has noticed the change."""
    until: float


class Trials:
    """Has the changes tested, instead of a run of all tests."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._changes = Changes()
        stats = json.loads(Path("mutmut-stats.json").read_text("utf-8"))
        self._tests: Mapping[str, Sequence[str]] = stats["tests_by_mangled_function_name"]
        self._seconds: Mapping[str, float] = stats["duration_by_test"]
        self._running: dict[int, _Trial] = {}
        self._noticed_by: deque[str] = deque(maxlen=12)
        """Tests that have noticed changes lately: they may notice the next one in the same function."""
        self.results: Counter[int] = Counter()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Test each change with the quickest of its function's tests first."""
        items = {item.nodeid: item for item in session.items}
        gc.collect()
        gc.freeze()  # so that the forks go on sharing it
        for number, (path, name) in enumerate(changes := self._changes.named(self._pattern)):
            tests = self._chosen(name.rpartition("__mutmut_")[0], items)
            if tests:
                self._await(at_most=max(1, os.cpu_count() or 1) - 1)
                self._start(path, name, [items[test] for test in tests])
            else:
                self._note(path, name, _UNTESTED)
            if number % 500 == 0:
                self._changes.save()
                print(f"{number} of {len(changes)}: {self.summary()}", file=sys.__stderr__, flush=True)
        self._await(at_most=0)
        self._changes.save()
        return True

    def summary(self) -> str:
        """Return how many changes were noticed, and so on."""
        return ", ".join(f"{count} {_WORDS[result]}" for result, count in sorted(self.results.items()))

    def _chosen(self, function: str, items: Mapping[str, pytest.Item]) -> list[str]:
        """Return the tests of a function, as many as may be run, best first."""
        tests = sorted((test for test in self._tests.get(function, ()) if test in items), key=self._duration)
        sums = itertools.accumulate(map(self._duration, tests))
        chosen = tests[: max(1, sum(so_far <= AT_MOST for so_far in sums))]
        likely = [test for test in self._noticed_by if test in tests]
        return [*likely, *(test for test in chosen if test not in likely)]

    def _duration(self, test: str) -> float:
        return self._seconds.get(test, 0.0)

    def _start(self, path: Path, name: str, items: Sequence[pytest.Item]) -> None:
        read_fd, write_fd = os.pipe()
        seconds = 3 * sum(self._duration(item.nodeid) for item in items) + PATIENCE
        pid = os.fork()
        if pid == 0:
            os.close(read_fd)
            _test(name, items, write_fd, seconds)
        os.close(write_fd)
        self._running[pid] = _Trial(path, name, read_fd, time.monotonic() + WAITING * seconds)

    def _await(self, *, at_most: int) -> None:
        """Take results until no more than so many trials are running."""
        while len(self._running) > at_most:
            time.sleep(0.003)
            for pid, trial in list(self._running.items()):
                result = _result(pid, trial.until)
                if result is None:
                    continue
                del self._running[pid]
                with open(trial.read_fd, encoding="utf-8") as said:
                    self._likely(said.read())
                self._note(trial.path, trial.name, result)

    def _likely(self, test: str) -> None:
        if test in self._noticed_by:
            self._noticed_by.remove(test)
        if test:
            self._noticed_by.appendleft(test)

    def _note(self, path: Path, name: str, result: int) -> None:
        self._changes.note(path, name, result)
        self.results[result] += 1


def _result(pid: int, until: float) -> int | None:
    """Return the result of a trial, None while it is running; one that takes too long is ended."""
    done, status = os.waitpid(pid, os.WNOHANG)
    if done and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return _ENDLESS
    if done:
        return _UNNOTICED if status == 0 else _NOTICED
    if time.monotonic() < until:
        return None
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return _ENDLESS


def _test(name: str, items: Sequence[pytest.Item], write_fd: int, seconds: float) -> None:
    """Run tests with a change in force, and end this process: 1 if one of them fails, 0 otherwise.

    After so many seconds of CPU the kernel ends it.
    """
    result = _NOTICED
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), resource.RLIM_INFINITY))
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.environ[UNDER_TEST] = name
        items[0].config.pluginmanager.register(_FirstFailure(write_fd))
        for item, following in itertools.zip_longest(items, items[1:]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        result = _UNNOTICED
    finally:
        os._exit(result)


class _FirstFailure:
    """Ends the process of a trial at its first failure."""

    def __init__(self, write_fd: int) -> None:
        self._write_fd = write_fd

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os.write(self._write_fd, report.nodeid.encode())
            os._exit(_NOTICED)


def main(pattern: str) -> int:
    """Test all changes whose names match; return pytest's exit code."""
    options: dict[str, Any] = tomllib.loads(Path("../pyproject.toml").read_text("utf-8"))["tool"]["mutmut"]
    trials = Trials(pattern)
    os.environ[UNDER_TEST] = ""
    words = [*options["pytest_add_cli_args"], "--rootdir=.", "-q", *options["pytest_add_cli_args_test_selection"]]
    code = pytest.main(words, plugins=[trials])
    sys.stderr.write(f"{trials.summary()}\n")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "*"))
