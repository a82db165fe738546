"""Schedules by a real clock that is set to and fro: libfaketime does that to one process, and to no other."""

from __future__ import annotations

import glob
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.model.names import scheduled_id
from tests.cli.conftest import SOON, eventually
from tests.lanes import missing

Start = Callable[..., subprocess.Popen[str]]

SLOT = 600.0
HOUR = 3600.0
LIBRARY = "/usr/lib/*/faketime/libfaketimeMT.so.1"
TIMES = {"every": "every: 10m", "cron": "cron: '*/10 * * * *'"}
POLICIES = ("none", "last", "all")


class Clock:
    """The wall clock of the processes that have its environment."""

    def __init__(self, folder: Path) -> None:
        found = glob.glob(LIBRARY)
        if not found:
            missing("libfaketime is not installed; on Debian: apt-get install faketime")
        self._file = folder / "offset"
        self._offset = 0.0
        self.env = {
            **os.environ,
            "AIR_HTTP_PORT": "0",
            "LD_PRELOAD": found[0],
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def now(self) -> float:
        """Return what it shows, in Unix seconds."""
        return time.time() + self._offset

    def step(self, seconds: float) -> None:
        """Set it forward, or back."""
        self._offset += seconds
        staged = self._file.with_name("staged")
        staged.write_text(f"{self._offset:+f}\n")
        staged.rename(self._file)


@pytest.mark.parametrize("killed", [False, True])
def test_each_time_has_one_run_by_its_policy(start: Start, project: Path, client: Client, *, killed: bool) -> None:
    """While a manager runs, and where it is killed before each step."""
    clock = Clock(project)
    clock.step(SLOT / 2 - time.time() % SLOT)
    names = [f"{kind}-{policy}" for kind in TIMES for policy in POLICIES]
    for name in names:
        kind, _, policy = name.partition("-")
        text = f"name: {name}\nschedule: {{{TIMES[kind]}, catch_up: {policy}}}\ntasks: [{{id: t, command: 'true'}}]\n"
        (project / f"{name}.yaml").write_text(text)
    assert start("schedule", "apply", *(f"{name}.yaml" for name in names), env=clock.env).wait(SOON) == 0
    log = project / "log"
    first = clock.now() // SLOT * SLOT

    def slots(*numbers: int) -> set[str]:
        return {f"{kind}-{policy}-{number}" for number in numbers for kind in TIMES for policy in wanted(number)}

    def wanted(number: int) -> tuple[str, ...]:
        return ("last", "all") if number in (18, 19) else ("all",)

    def fired() -> set[str]:
        times = {scheduled_id(name, first + SLOT * n): f"{name}-{n}" for name in names for n in range(-40, 40)}
        return {times.get(one, one) for one in client.jobs.ids()}

    def manager() -> subprocess.Popen[str]:
        with log.open("a") as stderr:
            return start("manager", env=clock.env, stderr=stderr)

    process = manager()
    eventually(lambda: client.presence().running, "it manages")
    expected: set[str] = set()
    said = ("wall time was set by", "managing ")
    for step, new in ((3 * HOUR, range(1, 19)), (-3 * HOUR, ()), (3 * HOUR + SLOT, (19,)), (-HOUR, ()), (HOUR, ())):
        if killed:
            process.kill()
            process.wait(SOON)
        before = sum(map(log.read_text().count, said))
        clock.step(step)
        if killed:
            process = manager()
        expected |= slots(*new)
        eventually(lambda: sum(map(log.read_text().count, said)) > before, "it knows the time")  # noqa: B023
        eventually(lambda: fired() >= expected, f"{expected - fired()} after {step}")  # noqa: B023
    process.send_signal(signal.SIGTERM)
    assert process.wait(SOON) == 0
    assert fired() == expected
