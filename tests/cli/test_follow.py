"""What `run` prints as runs end, where there is no terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from air_executor.cli import live_view
from air_executor.cli.live_view import LiveView
from air_executor.client.directory_logs import DirectoryLogs
from air_executor.model.state import Done, Queued, TaskPhase
from air_executor.model.times import to_text
from air_executor.store.layout import Layout
from tests.records import make_attempt, make_job, make_task

THEN = 1_700_000_000.0


@pytest.mark.parametrize(
    ("reason", "message", "said"),
    [
        ("cancelled", None, "a was cancelled after 2s\n"),
        ("timeout", None, "a failed in 2s (timed out)\n"),
        (
            "timeout",
            "the deadline of its job passed",
            "a failed in 2s (the deadline of its job passed)\n",
        ),
    ],
)
def test_a_run_that_was_stopped_says_why(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, reason: str, message: str | None, said: str
) -> None:
    """A cancel is no failure, and a deadline is not the task's own timeout."""
    phase: TaskPhase = "cancelled" if reason == "cancelled" else "failed"
    task = make_task("a", {"command": "x"}, queued_by=None, status=Done(phase, reason, to_text(THEN)))
    task.attempts = [make_attempt(1, 0, THEN, 0.1, 2.0, 0.1, reason, 143, message=message)]
    with LiveView(DirectoryLogs(Layout(tmp_path))) as follower:
        follower.look([make_job("j", "0badcafe", {}, submitted_at=THEN, tasks={"a": task})])
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("reason", "code", "said"),
    [
        ("oom", 137, "a failed in 2s (ran out of memory), will be retried with 1Gi\n"),
        ("error", 3, "a failed in 2s (exit code 3), will be retried\n"),
    ],
)
def test_a_retry_with_more_memory_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, reason: str, code: int, said: str
) -> None:
    """The line of a run that is retried after `oom` has the memory of the next run."""
    spec = {"command": "x", "resources": {"memory": 512 << 20, "memory_growth": 2}}
    task = make_task("a", spec, queued_by=None, status=Queued(retrying=True))
    task.attempts = [make_attempt(1, 0, THEN, 0.1, 2.0, 0.1, reason, code, memory_limit=512 << 20)]
    job = make_job("j", "0badcafe", {}, submitted_at=THEN, tasks={"a": task})
    with LiveView(DirectoryLogs(Layout(tmp_path))) as follower:
        follower.look([job])
    assert capsys.readouterr().err == said


def test_what_a_job_waits_for_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question of a task, with its command; when the next run comes; that a budget has paused the job."""
    monkeypatch.setattr(live_view, "LONG_WAIT", 0.0)
    asks = make_task("ok", {"command": None, "approve": "Go on?"}, queued_by=None, status=Queued())
    asks.ready_at = THEN
    again = make_task("c", {"command": "x"}, queued_by=None, status=Queued(4_000_000_000.0))
    again.again = 3
    jobs = [make_job(t.id, "0badcafe", {}, submitted_at=THEN, tasks={t.id: t}) for t in (asks, again)]
    paused = make_job("p", "0badcafe", {"budget": {"usd": 1}}, submitted_at=THEN, tasks={"ok": asks})
    paused.phase, paused.over_budget, paused.usage.reported["usd"] = "paused", "usd", 2.0
    with LiveView(DirectoryLogs(Layout(tmp_path))) as follower:
        follower.look([*jobs, paused])
    used_up = "job p is paused: it has used 2 of 1 usd (200 %) of its budget"
    assert capsys.readouterr().err.splitlines() == [
        'waiting: ok asks "Go on?": `air-executor approve ok ok`, or `reject`',
        "waiting: c checked 3 ×, next at 2096-10-02T07:06:40Z",
        f"waiting: {used_up}; resume it with `air-executor resume p --budget usd=AMOUNT`",
    ]
