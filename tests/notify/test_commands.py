"""What the commands say of notifications and late jobs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from air_executor.client import Client
from tests.cli.conftest import Outcome, air, client, project
from tests.notify.receivers import Webhook

__all__ = ["air", "client", "project"]

Air = Callable[..., Outcome]
FAILING = "id: j\nnotify: [{on: failure, to: ops}]\ntasks: [{command: echo broken; exit 3}]\n"


def test_run_tells_before_it_ends(air: Air, project: Path, ops: Webhook) -> None:
    """There may be no other manager for a long time."""
    (project / "j.yaml").write_text(FAILING)
    assert air("run", "j.yaml").code == 3
    assert ops.events == ["failure"]
    assert ops.got[0]["log"] == "broken"
    assert "notification" not in air("status", "j").out


def test_run_waits_for_no_target_that_is_down(air: Air, project: Path, ops: Webhook) -> None:
    """It ends, the notification stays, and all that is said of it."""
    ops.status = 500
    (project / "j.yaml").write_text(FAILING)
    begun = time.monotonic()
    assert air("run", "j.yaml").code == 3
    assert time.monotonic() - begun < 9
    assert "! notification of failure to ops is not delivered yet, since " in air("status", "j").out
    assert "notification of failure to ops is not delivered yet" in air("explain", "j").out
    assert "! notifications to ops: 1 not delivered: the webhook answered 500" in air("status").out


def test_tasks_do_not_inherit_the_urls(air: Air, project: Path, ops: Webhook) -> None:
    """A task that prints its environment tells nothing."""
    out = air("run", "j", "--", "env").out
    assert "AIR_JOB_ID" in out
    assert "AIR_NOTIFY" not in out


def test_a_default_for_all_jobs(air: Air, project: Path, ops: Webhook) -> None:
    """From the settings."""
    (project / "air-executor.toml").write_text('[notify]\nops = "success+failure"\n')
    assert air("run", "j", "--", "true").code == 0
    assert ops.events == ["success"]
    assert "ops=success+failure" in air("doctor", "--settings").out


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "ops=fail",
            "what is told to ops must be failure, late, recovered, success, approval, budget, with + between them",
        ),
        ("Ops=failure", '"Ops" is no name of a target'),
    ],
)
def test_wrong_defaults_are_refused(air: Air, monkeypatch: pytest.MonkeyPatch, value: str, message: str) -> None:
    """In words."""
    monkeypatch.setenv("AIR_NOTIFY", value)
    assert message in air("doctor").err


def test_trying_a_target(air: Air, ops: Webhook) -> None:
    """One message, or why it did not arrive."""
    assert air("notify", "ops").out == "target ops: delivered\n"
    assert ops.events == ["test"]
    ops.status = 403
    refused = air("notify", "ops")
    assert (refused.code, refused.err) == (1, "error: the webhook answered 403\n")
    unknown = air("notify", "nobody")
    assert unknown.code == 3
    assert "no AIR_NOTIFY_NOBODY in the manager's environment" in unknown.err


def test_the_doctor_looks_at_targets(air: Air, project: Path, ops: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their syntax alone, and it shows no URL."""
    folder = project / "secrets"
    folder.mkdir()
    (folder / "AIR_NOTIFY_BAD").write_text("hunter2\n")
    monkeypatch.setenv("AIR_SECRETS_DIR", str(folder))
    out = air("doctor").out
    assert "target ops; to try it" in out
    assert "target bad: is no URL" in out
    assert "hunter2" not in out
    assert ops.asked == 0


def test_late_is_shown(air: Air, client: Client) -> None:
    """As the reason, with the time at which its end was expected; as data too."""
    air("submit", "j", "--", "true")
    state = client.status("j")
    state.spec.late_after = 1
    state.submitted_at -= 100
    client.jobs.checkpoint(state, client.layout.tmp)
    assert "late: it was expected by" in air("status", "j").out
    assert "it is late: it was expected by" in air("explain", "j").out
    assert json.loads(air("status", "j", "--json").out)["expect_by"]
    (line,) = json.loads(air("status", "--json").out)["jobs"]
    assert line["expect_by"] is not None


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("notify: [{on: approvals, to: ops}]", "notify[0].on"),
        ("notify: [{on: [fail], to: ops}]", 'notify[0].on[0]: must be "failure", "late", '),
        ("notify: [{on: failure, to: Ops}]", "notify[0].to: must be lower-case letters"),
        (
            "notify: [{on: [], to: ops}]",
            "notify[0].on: must be one of failure, late, recovered, success, approval, budget",
        ),
        ("notify: [{to: ops}]", "notify[0].on: is missing"),
        ("late_after: never", "late_after: "),
        ("retention: {succeeded: -1}", "retention.succeeded: must be a whole number >= 0"),
        ("retention: {age: 0}", "retention.age: "),
    ],
)
def test_wrong_fields_are_refused(air: Air, project: Path, field: str, message: str) -> None:
    """With the field and what it takes."""
    (project / "j.yaml").write_text(f"name: j\n{field}\ntasks: [{{command: x}}]\n")
    assert message in air("submit", "j.yaml").err
