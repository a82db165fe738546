"""Too much, too long, in a cycle: what tasks queue and users ask is refused at little cost, and the rest goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.manager.rig import World, leave
from tests.manager.test_interleavings import reason


@pytest.mark.parametrize("name", ["0.json", f"{'0' * 245}.json"])
def test_a_request_that_cannot_be_refused_holds_up_nothing(world: World, name: str) -> None:
    """There is no room for its reason, be it that the name is too long or taken: jobs and other requests go on."""
    inbox = Path(world.layout.inbox)
    (inbox / "refused" / "0.json.reason").mkdir()
    (inbox / name).write_text("no request", encoding="utf-8")
    world.submit("j", "a")
    world.do("j/a")
    world.until(lambda: world.job("j").phase == "succeeded")
    assert world.asked("add", "j", tasks=[{"command": "more"}]) is None
    assert (inbox / name).read_text(encoding="utf-8") == "no request"


def test_a_runaway_is_not_read_to_its_end(world: World) -> None:
    """Of a flood of lines no more are looked at than the job may have tasks; what comes after may be anything."""
    world.submit("j", "a", max_tasks=10)
    world.cycle()
    launch = world.launch("j/a")
    Path(launch.out_dir, "queue.jsonl").write_bytes(b'{"command": "x"}\n' * 20 + b"[" * 1000)
    leave(launch)
    world.platform.end(world.slot("j/a"), 0)
    world.until(lambda: world.job("j").ended)
    assert reason(world, "j", "a") == "budget"
    assert list(world.job("j").tasks) == ["a"]


@pytest.mark.parametrize("after", [{"b": ["c"], "c": ["b"]}, {"b": ["c"], "c": ["d"], "d": ["b"]}])
def test_whole_jobs_that_wait_for_each_other(world: World, after: dict[str, list[str]]) -> None:
    """A run submits jobs that could never start: it is rejected with the cycle, and none of them is there."""
    world.submit("j", "a")
    world.cycle()
    world.exit(
        "j/a", queue=[{"job": {"id": n, "after": needs, "tasks": [{"command": "x"}]}} for n, needs in after.items()]
    )
    world.until(lambda: world.job("j").ended)
    assert reason(world, "j", "a") == "rejected"
    message = world.task("j", "a").status.message  # type: ignore[union-attr]
    assert message is not None
    assert "wait for each other for ever: " in message
    assert world.jobs.ids() == ["j"]
