"""`doctor`: settings with their sources, a volume that is put to the test, and what is wrong with jobs and manager."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from air_executor.client import Client
from air_executor.core.finding import BAD, FINE, WARN
from air_executor.manager.event_check import check_events
from air_executor.manager.wakeups import Wakeups
from air_executor.store.probe import probe
from tests.cli.conftest import Outcome

Air = Callable[..., Outcome]


def checks(done: Outcome) -> dict[str, dict[str, Any]]:
    """Return the findings by name; of several the worst."""
    found: dict[str, dict[str, Any]] = {}
    for one in json.loads(done.out)["checks"]:
        if one["name"] not in found or one["verdict"] == BAD:
            found[one["name"]] = one
    return found


def test_a_healthy_folder_is_found_healthy(air: Air, project: Path) -> None:
    """All is well on a normal volume, and nothing is left behind."""
    done = air("doctor", "--json")
    assert done.code == 0, done.out
    found = checks(done)
    assert {"rename", "exclusive create", "lock", "clock", "space", "events", "fsync"} <= found.keys()
    assert all(found[name]["verdict"] == FINE for name in ("rename", "exclusive create", "lock", "clock"))
    assert list(project.iterdir()) == []


def test_settings_say_where_they_come_from(air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with value and source; a token is not shown."""
    monkeypatch.setenv("AIR_MAX_RUNNERS", "7")
    monkeypatch.setenv("AIR_TOKEN", "hunter2")
    done = air("doctor", "--json")
    rows = {row["name"]: row for row in json.loads(done.out)["settings"]}
    assert (rows["max_runners"]["value"], rows["max_runners"]["source"]) == ("7", "AIR_MAX_RUNNERS")
    assert "hunter2" not in done.out + air("doctor", "--settings").out
    assert "AIR_MAX_RUNNERS" in air("doctor", "--settings").out
    assert "AIR_MAX_RUNNERS" not in air("doctor").out


def test_unreadable_jobs_are_named(air: Air, client: Client) -> None:
    """A damaged state file is a failure with its path and a remedy."""
    air("submit", "j", "--", "true")
    Path(client.layout.state("j")).write_text("{")
    done = air("doctor", "--json")
    assert done.code == 1
    assert "j:" in checks(done)["job"]["text"]
    shown = air("doctor").out
    assert "state.json" in shown
    assert re.fullmatch(r"✗ \d of \d+ checks failed, \d warnings?", shown.splitlines()[-1])


def test_a_manager_that_was_killed_is_told_from_one_that_left(air: Air, client: Client) -> None:
    """What manager.json says is compared with the processes that there are."""
    client.jobs.prepare()
    record = {
        "kind": "file",
        "host": os.uname().nodename,
        "pid": 2**22 + 1,
        "boot": "x",
        "since": "then",
        "until": None,
    }
    Path(client.layout.manager).write_text(json.dumps(record))
    assert "killed or crashed" in checks(air("doctor", "--json"))["manager"]["text"]
    Path(client.layout.manager).write_text(json.dumps(record | {"until": "later"}))
    assert checks(air("doctor", "--json"))["manager"]["text"] == "not running"
    Path(client.layout.manager).write_text(json.dumps(record | {"host": "elsewhere", "boot": "another"}))
    assert "another host" in checks(air("doctor", "--json"))["manager"]["text"]


def verdicts(folder: Path) -> dict[str, str]:
    """Return what the probe says, by name."""
    return {finding.name: finding.verdict for finding in probe(str(folder), {"events": check_events})}


def test_a_rename_that_overwrites_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs could get one id there."""
    monkeypatch.setattr(os, "rename", lambda *_: None)
    assert verdicts(tmp_path)["rename"] == BAD


def without_renames(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """Let the volume refuse to rename folders, as mounts of object stores do."""
    real = os.rename

    def rename(source: str, target: str) -> None:
        if os.path.isdir(source):
            raise OSError(error, os.strerror(error), source, None, target)
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)


@pytest.mark.parametrize(
    ("error", "remedy"), [(errno.ENOSYS, "mounts of object stores"), (errno.ENOSPC, "free space there")]
)
def test_a_manager_on_a_volume_without_renames_stops_before_the_first_job(
    air: Air, project: Path, monkeypatch: pytest.MonkeyPatch, error: int, remedy: str
) -> None:
    """One line says what is missing and what to do; nothing is left behind."""
    without_renames(monkeypatch, error)
    done = air("manager")
    (line,) = done.err.splitlines()
    assert (done.code, f"cannot be a state directory: rename: {os.strerror(error)}; " in line) == (1, True)
    assert remedy in line
    assert list(project.iterdir()) == []


def test_locks_that_do_not_hold_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two managers could work there."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    assert verdicts(tmp_path)["lock"] == BAD


def test_a_volume_that_refuses_is_a_finding_and_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the volume during a check is what that check found."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    assert verdicts(tmp_path)["fsync"] == BAD
    monkeypatch.setattr(os, "mkdir", refuse)
    assert verdicts(tmp_path)["writable"] == BAD


def test_a_clock_that_is_off_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The volume's clock is compared with the host's."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    assert verdicts(tmp_path)["clock"] == WARN


def test_missing_events_are_only_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polling finds everything, only later."""
    monkeypatch.setattr("air_executor.manager.event_check.EVENT_WITHIN", 0.1)
    monkeypatch.setattr(Wakeups, "watch", lambda *_: None)
    assert verdicts(tmp_path)["events"] == WARN


def test_events_are_those_that_wake_a_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux that is not the library which other systems need."""
    if sys.platform == "linux":
        monkeypatch.setitem(sys.modules, "watchfiles", None)
    assert verdicts(tmp_path)["events"] == FINE


def test_the_last_line_is_the_verdict(air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at one line only knows whether all is well."""
    assert re.match("✓ ready: all|! ready, with", air("doctor").out.splitlines()[-1])
    air("submit", "j", "--", "true")
    air("cancel", "j")
    assert air("doctor").out.splitlines()[-1].startswith("! ready, with ")
    assert "→ start one: `air-executor manager`" in air("doctor").out
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "demo")
    monkeypatch.setattr("air_executor.store.presence.pid_namespace", lambda: 4026532000)
    assert "→ start one: `docker compose up -d`" in air("doctor").out
    assert "start one with `docker compose up -d`" in air("status").out
