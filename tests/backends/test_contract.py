"""What every backend promises, whatever its platform."""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from pathlib import Path

import pytest

from air_executor.backends.base import Backend
from air_executor.errors import DuplicateRunnerError
from air_executor.model.names import Slot
from tests.backends.rig import Rig, Task

SLOT = Slot("census", 0)
OTHER = Slot("census", 3)


def is_gone(backend: Backend, slot: Slot = SLOT) -> bool:
    """Ask for removal once more, as the manager does each cycle, and tell whether the slot is free."""
    backend.remove(slot)
    return slot not in backend.observe()


def has_ended(backend: Backend, slot: Slot = SLOT) -> bool:
    """Tell whether nothing of a slot's runner runs any more; some platforms keep its name until it is removed."""
    status = backend.observe().get(slot)
    return status is None or status.finished


def test_nothing_is_listed_at_first(rig: Rig) -> None:
    """A platform on which nothing was started has no runners."""
    assert rig.backend().observe() == {}


def test_a_run_is_listed_until_it_ends(rig: Rig) -> None:
    """A runner is listed alive under its run id, and as finished or not at all once it has ended and left nothing."""
    backend = rig.backend()
    launch = rig.launch(SLOT, 1, Task.WAITS)
    backend.spawn(launch)
    status = backend.observe()[SLOT]
    assert (status.run, status.alive) == (launch.run, True)
    rig.until(lambda: rig.is_ready(launch), "the task to start")
    assert backend.observe()[SLOT].alive
    rig.release(launch)
    rig.until(lambda: has_ended(backend), "the runner to end")
    rig.until(lambda: is_gone(backend), "its name to be free")


def test_slots_of_a_job_are_independent(rig: Rig) -> None:
    """Two slots of one job hold two runners, and the end of one leaves the other."""
    backend = rig.backend()
    first, second = rig.launch(SLOT, 1, Task.WAITS), rig.launch(OTHER, 2, Task.WAITS)
    backend.spawn(first)
    backend.spawn(second)
    assert {slot: status.run for slot, status in backend.observe().items()} == {SLOT: first.run, OTHER: second.run}
    rig.until(lambda: rig.is_ready(first), "the task to start")
    rig.release(first)
    rig.until(lambda: has_ended(backend), "the first runner to end")
    assert backend.observe()[OTHER].alive


def test_ids_that_no_platform_can_name(rig: Rig) -> None:
    """Ids of 64 characters, with dots, underscores and capitals, are known again by whoever manages next."""
    slots = [Slot(("Census.v2_" + "x" * 64)[:64], 0), Slot(("census.v2_" + "x" * 64)[:64], 1), Slot("_a.b-", 0)]
    launches = [rig.launch(slot, seq, Task.WAITS) for seq, slot in enumerate(slots, 1)]
    first = rig.backend()
    for launch in launches:
        first.spawn(launch)
    rig.until(lambda: all(rig.is_ready(launch) for launch in launches), "all three to start")
    next_one = rig.backend()
    assert {slot: status.run for slot, status in next_one.observe().items()} == {one.slot: one.run for one in launches}
    for slot in slots:
        rig.until(lambda slot=slot: is_gone(next_one, slot), "its name to be free")  # type: ignore[misc]


def test_a_script_runs_by_its_interpreter(rig: Rig) -> None:
    """The interpreter gets the path of the script in the run's `out/`, where also a read-only container sees it."""
    backend = rig.backend()
    launch = dataclasses.replace(rig.launch(SLOT, 1, Task.ENDS), argv=("sh", "-u"), script=True)
    if os.path.isdir(launch.out_dir):  # the fake runs nothing
        Path(launch.out_dir, "script").write_text(
            f'[ "$0" = "${{AIR_QUEUE%/*}}/script" ] || exit 1\n{Task.ENDS.value}\n'
        )
    backend.spawn(launch)
    rig.until(lambda: rig.is_ready(launch), "the script to run")


def test_a_taken_slot_refuses(rig: Rig) -> None:
    """A second spawn in a slot raises, starts nothing, and leaves the first runner alone."""
    backend = rig.backend()
    first, second = rig.launch(SLOT, 1, Task.WAITS), rig.launch(SLOT, 2, Task.WAITS)
    backend.spawn(first)
    rig.until(lambda: rig.is_ready(first), "the task to start")
    with pytest.raises(DuplicateRunnerError):
        backend.spawn(second)
    with pytest.raises(DuplicateRunnerError):
        rig.backend().spawn(second)
    status = backend.observe()[SLOT]
    assert (status.run, status.alive) == (first.run, True)
    assert not rig.is_ready(second)


def test_of_many_creators_one_wins(rig: Rig) -> None:
    """Whoever else tries at the same time is refused, and the runner that is listed is the winner's."""
    backends = [rig.backend() for _ in range(rig.contenders)]
    launches = [rig.launch(SLOT, seq, Task.WAITS) for seq in range(rig.contenders)]
    for backend in backends:
        backend.observe()

    outcomes = rig.race([partial(backend.spawn, launches[number]) for number, backend in enumerate(backends)])
    winners = [launch for number, launch in enumerate(launches) if outcomes[number] is None]
    assert len(winners) == 1
    assert all(isinstance(outcome, DuplicateRunnerError) for outcome in outcomes if outcome is not None)
    rig.until(lambda: rig.is_ready(winners[0]), "the winner's task to start")
    assert [launch.run for launch in launches if rig.is_ready(launch)] == [winners[0].run]
    assert rig.backend().observe()[SLOT].run == winners[0].run


def test_a_freed_slot_takes_the_next_run(rig: Rig) -> None:
    """A name is usable again as soon as it is absent, many times over."""
    backend = rig.backend()
    for seq in range(rig.repeats):
        backend.spawn(rig.launch(SLOT, seq, Task.ENDS))
        rig.until(lambda: has_ended(backend), "the runner to end")
        rig.until(lambda: is_gone(backend), "its name to be free")


def test_remove_ends_with_absence(rig: Rig) -> None:
    """A live runner that is removed goes, however often it is asked to."""
    backend = rig.backend()
    launch = rig.launch(SLOT, 1, Task.WAITS)
    backend.spawn(launch)
    rig.until(lambda: rig.is_ready(launch), "the task to start")
    rig.until(lambda: is_gone(backend), "the runner to be gone")
    backend.remove(SLOT)
    assert backend.observe() == {}
    backend.spawn(rig.launch(SLOT, 2, Task.WAITS))
    assert backend.observe()[SLOT].alive


def test_remove_at_once(rig: Rig) -> None:
    """A runner that has hardly begun can be removed too."""
    backend = rig.backend()
    for seq in range(rig.repeats):
        backend.spawn(rig.launch(SLOT, seq, Task.WAITS))
        rig.until(lambda: is_gone(backend), "the runner to be gone")


def test_remove_of_the_unknown_does_nothing(rig: Rig) -> None:
    """A slot without a runner can be removed, and its neighbour does not notice."""
    backend = rig.backend()
    backend.spawn(rig.launch(OTHER, 1, Task.WAITS))
    backend.remove(SLOT)
    backend.remove(Slot("no-such-job", 7))
    assert list(backend.observe()) == [OTHER]
    assert backend.observe()[OTHER].alive


def test_what_ignores_term_is_killed(rig: Rig) -> None:
    """After its grace a task goes, whether it wants to or not."""
    backend = rig.backend()
    launch = rig.launch(SLOT, 1, Task.IGNORES_TERM)
    backend.spawn(launch)
    rig.until(lambda: rig.is_ready(launch), "the task to start")
    rig.until(lambda: is_gone(backend), "the runner to be gone")


def test_exited_is_not_absent(rig: Rig) -> None:
    """While a grandchild lives the runner counts as exited, but its slot is taken; removal ends the grandchild."""
    if rig.ends_leftovers:
        pytest.skip("its runner ends the grandchild first")
    backend = rig.backend()
    launch = rig.launch(SLOT, 1, Task.LEAVES_CHILD)
    backend.spawn(launch)
    rig.until(lambda: SLOT in backend.observe() and not backend.observe()[SLOT].alive, "the runner to exit")
    assert backend.observe()[SLOT].run == launch.run
    with pytest.raises(DuplicateRunnerError):
        backend.spawn(rig.launch(SLOT, 2, Task.WAITS))
    rig.until(lambda: is_gone(backend), "the grandchild to be gone")


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
def test_the_next_manager_adopts(rig: Rig, *, killed: bool) -> None:
    """A runner outlives its manager; the next one lists it, refuses its slot, and notices its end."""
    launch = rig.launch(SLOT, 1, Task.WAITS)
    start_under_earlier_manager(rig, launch.slot, killed=killed)
    rig.until(lambda: rig.is_ready(launch), "the task to start")
    backend = rig.backend()
    status = backend.observe()[SLOT]
    assert (status.run, status.alive) == (launch.run, True)
    with pytest.raises(DuplicateRunnerError):
        backend.spawn(rig.launch(SLOT, 2, Task.WAITS))
    rig.release(launch)
    rig.until(lambda: has_ended(backend), "the runner to end")


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
def test_the_next_manager_can_remove(rig: Rig, *, killed: bool) -> None:
    """An adopted runner is stopped like one's own."""
    launch = rig.launch(SLOT, 1, Task.WAITS)
    start_under_earlier_manager(rig, launch.slot, killed=killed)
    rig.until(lambda: rig.is_ready(launch), "the task to start")
    backend = rig.backend()
    rig.until(lambda: is_gone(backend), "the runner to be gone")


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
def test_spawn_before_observe_sees_earlier_runners(rig: Rig, *, killed: bool) -> None:
    """A manager that spawns before it has looked is refused all the same."""
    start_under_earlier_manager(rig, SLOT, killed=killed)
    with pytest.raises(DuplicateRunnerError):
        rig.backend().spawn(rig.launch(SLOT, 2, Task.WAITS))


def start_under_earlier_manager(rig: Rig, slot: Slot, *, killed: bool) -> None:
    """Start run 1 of a slot by a manager that is gone afterwards."""
    launch = rig.launch(slot, 1, Task.WAITS)
    if killed:
        rig.spawn_by_manager_that_is_killed(launch)
    else:
        earlier = rig.backend()
        earlier.spawn(launch)
        earlier.close()
