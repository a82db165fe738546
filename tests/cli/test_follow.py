"""What `run` prints as runs end, where there is no terminal."""

from __future__ import annotations

import pytest

from air_executor.cli.live_view import LiveView
from air_executor.model.state import Queued
from tests.records import make_attempt, make_job, make_task

THEN = 1_700_000_000.0


@pytest.mark.parametrize(
    ("reason", "code", "said"),
    [
        ("oom", 137, "a failed in 2s (ran out of memory), will be retried with 1Gi\n"),
        ("error", 3, "a failed in 2s (exit code 3), will be retried\n"),
    ],
)
def test_a_retry_with_more_memory_is_told(
    capsys: pytest.CaptureFixture[str], reason: str, code: int, said: str
) -> None:
    """The line of a run that is retried after `oom` has the memory of the next run."""
    spec = {"command": "x", "resources": {"memory": 512 << 20, "memory_growth": 2}}
    task = make_task("a", spec, queued_by=None, status=Queued(retrying=True))
    task.attempts = [make_attempt(1, 0, THEN, 0.1, 2.0, 0.1, reason, code, memory_limit=512 << 20)]
    job = make_job("j", "0badcafe", {}, submitted_at=THEN, tasks={"a": task})
    with LiveView() as follower:
        follower.look([job])
    assert capsys.readouterr().out == said
