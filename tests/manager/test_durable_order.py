"""What must be on the disk before what: a power failure may cut anywhere between two of these."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from air_executor.errors import NotFoundError
from air_executor.store.inbox import Inbox
from air_executor.store.jobs import Jobs
from air_executor.store.journal import Journal
from tests.manager.rig import World


def noted(monkeypatch: pytest.MonkeyPatch, order: list[str], owner: Any, method: str, note: str) -> None:  # noqa: ANN401
    """Let a method note that it was called."""
    real: Callable[..., object] = getattr(owner, method)

    def called(*args: object, **names: object) -> object:
        order.append(note)
        return real(*args, **names)

    monkeypatch.setattr(owner, method, called)


def test_a_request_is_answered_once_its_line_is_durable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is the answer: gone before the line is safe, a power failure would lose what was promised."""
    world.submit("j", "a")
    world.cycle()
    order: list[str] = []
    noted(monkeypatch, order, Journal, "flush", "written")
    noted(monkeypatch, order, Journal, "sync", "durable")
    noted(monkeypatch, order, Inbox, "done", "answered")
    assert world.asked("pause", "j") is None
    assert order[order.index("written") :].index("durable") < order[order.index("written") :].index("answered")


def test_a_checkpoint_follows_its_lines(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it holds may rest on another job's lines, so those are durable before it is."""
    world.submit("j", "a")
    world.cycle(2)
    order: list[str] = []
    noted(monkeypatch, order, Journal, "flush", "written")
    noted(monkeypatch, order, Journal, "sync", "durable")
    noted(monkeypatch, order, Jobs, "checkpoint", "checkpoint")
    world.exit("j/a")
    world.until(lambda: "checkpoint" in order)
    last = len(order) - order[::-1].index("written") - 1
    assert "durable" in order[last : order.index("checkpoint", last)]


def test_a_replaced_manager_cannot_write_a_state(world: World) -> None:
    """Its successor has taken away the place where it builds, so its rename fails whatever it believes."""
    world.submit("j", "a")
    world.cycle()
    old = world.manager
    staging = world.layout.epoch_tmp(old.epoch)
    state = old.state.index.open["j"].state
    os.unlink(world.layout.lock)
    world.let_go()
    world.start()
    before = world.jobs.load("j")
    with pytest.raises(NotFoundError):
        old.jobs.checkpoint(state, staging)
    assert world.jobs.load("j").epoch == before.epoch
    assert not os.path.exists(staging)
