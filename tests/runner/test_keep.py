"""A runner in a container that stays after a failure: the outcome is there at once, and it leaves when told."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from tests.runner.rig import until
from tests.runner.test_stop import READY, started

if TYPE_CHECKING:
    from tests.runner.rig import Rig

LONG: dict[str, Any] = {"mode": "container", "env": {"_air_bin": "/air/bin", "_air_keep": "100000"}}
SHORT: dict[str, Any] = {"mode": "container", "env": {"_air_bin": "/air/bin", "_air_keep": "1"}}


def test_the_runner_stays_after_a_failure(rig: Rig) -> None:
    """Until it is told to leave; exit status and outcome are the command's, which does not see the variable."""
    runner = rig.start("sh", "-c", 'echo "oh$_air_keep"; exit 3', **LONG)
    until(lambda: rig.has_outcome)
    assert (rig.exit["exit_code"], rig.exit["stopped"], rig.log) == (3, False, b"oh\n")
    assert runner.status() is None
    runner.send(signal.SIGTERM)
    assert runner.wait() == 3
    assert (rig.exit["stopped"], rig.alive()) == (False, [])


def test_the_runner_stays_after_a_timeout(rig: Rig) -> None:
    """The TERM that ended the command does not end its stay."""
    runner = started(rig, READY, timeout="0.1", **LONG)
    until(lambda: rig.has_outcome)
    assert (rig.exit["timed_out"], runner.status()) == (True, None)
    runner.send(signal.SIGINT)
    assert runner.wait() == 143
    assert rig.alive() == []


def test_nothing_else_stays(rig: Rig) -> None:
    """What the command left running ends before the outcome is there: later tasks have the workspace by then."""
    runner = rig.start("sh", "-c", "trap '' TERM HUP; (sleep 1000; :) & setsid sleep 1000 & exit 3", **LONG)
    until(lambda: rig.has_outcome)
    assert [one for one in rig.alive(runners=False) if one.cmdline()[-1:] == ["1000"]] == []
    assert runner.status() is None


def test_the_stay_has_an_end(rig: Rig) -> None:
    """By the runner itself: no manager need be there."""
    assert rig.script("exit 3", **SHORT) == 3
    assert rig.alive() == []


def test_a_success_does_not_stay(rig: Rig) -> None:
    """There is nothing to look for."""
    assert rig.script("exit 0", **LONG) == 0


def test_what_was_stopped_does_not_stay(rig: Rig) -> None:
    """Somebody has decided that it ends."""
    runner = started(rig, READY, **LONG)
    runner.send(signal.SIGTERM)
    assert runner.wait() == 143
    assert rig.exit["stopped"] is True


def test_no_time_is_no_stay(rig: Rig) -> None:
    """Neither is what is no number."""
    for value in ("", "0", "-1", "ever"):
        (rig.out / "claim").unlink(missing_ok=True)
        assert rig.script("exit 4", mode="container", env={"_air_keep": value}) == 4
