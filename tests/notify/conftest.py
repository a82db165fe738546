"""A world whose target `ops` is a webhook of the test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.manager.rig import World
from tests.notify.receivers import Mailbox, Webhook, mail_server, webhook

PATIENCE = 20.0


@pytest.fixture
def ops(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    """The target `ops`."""
    with webhook() as found:
        monkeypatch.setenv("AIR_NOTIFY_OPS", found.url)
        yield found


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A mail server."""
    with mail_server() as found:
        yield found


class NotifyWorld(World):
    """A world that waits for the threads which send."""

    def told(self, condition: Callable[[], bool], *, step: float = 0.0) -> None:
        """Cycle in real time until a condition holds; `step` seconds of the world's time pass each time."""
        until = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < until, "it did not come about"
            self.cycle()
            self.clock.pass_time(step)
            time.sleep(0.005)

    def settled(self, job: str) -> bool:
        """Whether the volume says that a job has nothing left to be delivered."""
        return not self.jobs.load(job).notices

    def fail(self, job: str, **fields: Any) -> None:  # noqa: ANN401 - JSON
        """Run a job of one task that fails."""
        self.submit(job, "work", **{"notify": [{"on": "failure", "to": "ops"}]} | fields)
        self.do(f"{job}/work", code=3)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[NotifyWorld]:
    """A state directory with a manager."""
    made = NotifyWorld(tmp_path / "project")
    made.start()
    yield made
    if made.alive:
        made.manager.notifier.close()
        made.crash()
