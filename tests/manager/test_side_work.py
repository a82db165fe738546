"""Side work of a manager that is told to stop: it is waited for, but not for long."""

from __future__ import annotations

import threading

from tests.manager.rig import World

PATIENCE = 60.0


def stopped_while_busy(world: World, gate: threading.Event) -> tuple[threading.Thread, list[bool | None]]:
    """Let a manager run whose side work waits for a gate, and tell it to stop."""
    done: list[bool | None] = []
    world.manager.preparation.side_work.order("work", lambda: gate.wait(PATIENCE), lambda value, _: done.append(value))
    world.manager.stop()
    thread = threading.Thread(target=world.manager.run, daemon=True)
    thread.start()
    return thread, done


def test_a_stop_waits_for_what_is_being_done(world: World) -> None:
    """A worktree whose removal has begun is gone when the manager is."""
    gate = threading.Event()
    thread, done = stopped_while_busy(world, gate)
    threading.Timer(0.1, gate.set).start()
    thread.join(PATIENCE)
    assert (thread.is_alive(), done) == (False, [True])
    world.let_go()


def test_it_does_not_wait_for_long(world: World) -> None:
    """What takes longer is left to the next manager."""
    gate = threading.Event()
    thread, done = stopped_while_busy(world, gate)
    while thread.is_alive():
        world.clock.pass_time(1.0)
        thread.join(0.05)
    assert done == []
    gate.set()
    world.let_go()
