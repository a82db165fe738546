"""A task that may change where a mount leads does not run while the mount is made."""

from __future__ import annotations

import os
from typing import Any

import pytest

from air_executor.backends.docker.mount_conflicts import MountSet, mounted, requested
from tests.docker.rig import Plant, done

pytestmark = pytest.mark.docker

WRITER = {"id": "it", "command": "until [ -e /d/end ]; do sleep 0.1; done", "mounts": [{"source": "d", "target": "/d"}]}
READER = {"id": "it", "command": "cat /x/f", "mounts": [{"source": "d/x", "target": "/x", "read_only": True}]}


def test_only_a_writer_above_conflicts() -> None:
    """A writable folder above conflicts; the same folder, one beside it and a read-only one do not."""
    victim = MountSet(frozenset({"/p/d/x"}))
    assert MountSet(writes=frozenset({"/p/d"})).conflict_with(victim) == "/p/d/x"
    assert MountSet(writes=frozenset({"/"})).conflict_with(victim) == "/p/d/x"
    for harmless in (
        MountSet(writes=frozenset({"/p/d/x", "/p/d/x/y", "/p/d/xx", "/p/e"})),
        MountSet(frozenset({"/p/d"})),
    ):
        assert harmless.conflict_with(victim) is None


def test_the_engine_shows_what_was_asked_for() -> None:
    """Both descriptions of the same mounts say the same, but that a list does not know parts of volumes."""
    body: list[dict[str, Any]] = [
        {"Type": "volume", "Source": "v", "Target": "/air/out", "VolumeOptions": {"Subpath": "a/b"}},
        {"Type": "bind", "Source": "/p", "Target": "/m", "ReadOnly": True},
        {"Type": "tmpfs", "Target": "/m/s"},
    ]
    entry: list[dict[str, Any]] = [
        {"Type": "volume", "Name": "v", "Source": "/var/lib/v", "Destination": "/air/out", "RW": True},
        {"Type": "bind", "Source": "/p", "Destination": "/m", "RW": False},
        {"Type": "tmpfs", "Source": "", "Destination": "/m/s", "RW": True},
    ]
    assert requested(body) == MountSet(frozenset({"/p"}), frozenset({"v:/a/b"}))
    assert mounted(entry) == MountSet(frozenset({"/p"}), frozenset({"v:/"}))


def writer_runs(plant: Plant) -> None:
    """Let a task run that may write to `d`."""
    (plant.project / "d" / "x").mkdir(parents=True)
    (plant.project / "d" / "x" / "f").write_text("plain\n")
    for path in (plant.project / "d", plant.project / "d" / "x"):
        path.chmod(0o777)
    plant.submit("writer", WRITER)
    plant.the_container()


def waits(plant: Plant) -> None:
    """Wait until the reader waits for another runner, and says for which."""
    waiting = plant.manager.scheduler
    plant.until(
        lambda: "mount " in (why := waiting.waiting.get("reader", "")) and "runner" in why, "the reader to wait"
    )


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
def test_who_mounts_below_waits_for_the_writer(plant: Plant, *, swapped: bool, adopted: bool) -> None:
    """It says so at no charge; then a folder that the writer has left is mounted, and a link is not."""
    writer_runs(plant)
    if adopted:
        plant.stop()
        plant.start()
    plant.submit("reader", READER)
    waits(plant)
    assert plant.job("reader").tasks["it"].runs == 0
    if swapped:
        os.rename(plant.project / "d" / "x", plant.project / "d" / "y")
        (plant.project / "d" / "x").symlink_to("/etc")
    (plant.project / "d" / "end").touch()
    ended = done(plant.see("reader").tasks["it"])
    assert ended.reason == ("start-failed" if swapped else "ok")
    assert plant.job("reader").tasks["it"].runs == 1
    if not swapped:
        assert plant.log("reader", "it") == "plain\n"


def test_of_two_that_become_ready_together_one_waits(plant: Plant) -> None:
    """Writer and reader in one cycle are not started together."""
    writer_runs(plant)
    (plant.project / "d" / "end").touch()
    plant.see("writer")
    (plant.project / "d" / "end").unlink()
    plant.submit("second", WRITER, priority=1)
    plant.submit("reader", READER)
    waits(plant)
    assert plant.job("reader").tasks["it"].runs == 0
    (plant.project / "d" / "end").touch()
    assert done(plant.see("reader").tasks["it"]).reason == "ok"


def test_the_same_folder_is_shared(plant: Plant) -> None:
    """Tasks that write to the same folder run side by side."""
    (plant.project / "d").mkdir()
    (plant.project / "d").chmod(0o777)
    meet = "touch /d/$AIR_TASK_ID; until [ -e /d/a ] && [ -e /d/b ]; do sleep 0.1; done"
    mounts = [{"source": "d", "target": "/d"}]
    plant.submit("both", *({"id": name, "command": meet, "mounts": mounts} for name in "ab"), max_runners=2)
    assert {done(task).reason for task in plant.see("both").tasks.values()} == {"ok"}
