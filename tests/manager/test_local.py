"""Through a manager and real processes: what tasks do to themselves, to their files and to each other."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from air_executor.backends.local.local_backend import LocalBackend
from air_executor.client import Client
from air_executor.core.explanation import ExplainContext, explain_job, explain_task
from air_executor.core.submission import initial_state, parse_job
from air_executor.manager.loop import Manager
from air_executor.manager.manager_state import ManagerOptions
from air_executor.model.records import Request
from air_executor.model.state import Done, JobState
from air_executor.runner import native
from air_executor.store.this_host import this_host
from air_executor.wiring import runner_files

PYTHON = sys.executable


class Local:
    """A manager of real processes, driven by the test's own thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.client = Client(root / ".air-executor")
        self.layout = self.client.layout
        self.manager = self.begin()

    def begin(self, **options: Any) -> Manager:  # noqa: ANN401 - fields of `Options`
        """Return another manager, which has started."""
        settings: dict[str, Any] = {"max_runners": 4, "poll_interval": 0.1, "events": False}
        settings |= {"runner_files": runner_files()} | options
        plan = ManagerOptions(version="test", project=str(self.root), **settings)
        manager = Manager(self.layout, LocalBackend(self.layout, this_host(), environ=os.environ), this_host(), plan)
        manager.start()
        return manager

    def restart(self, **options: Any) -> None:  # noqa: ANN401 - fields of `Options`
        """Stop cleanly, and start with other options."""
        self.manager.close()
        self.manager = self.begin(**options)

    def submit(self, job: str, *tasks: dict[str, Any], **fields: Any) -> None:  # noqa: ANN401 - JSON
        """Submit a job."""
        parsed = parse_job({"id": job, "tasks": list(tasks), **fields})
        state = initial_state(parsed, uid=os.urandom(12).hex(), now=round(time.time(), 3))
        self.client.jobs.create(state)
        self.client.inbox.post(Request("wake", job), time.time())

    def until(self, condition: Callable[[], bool], seconds: float = 120.0) -> None:
        """Let the manager work until something is so."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come about"
            self.manager.cycle()
            self.manager.wakeups.sleep(0.02)

    def job(self, name: str) -> JobState:
        """Return a job as the manager has it."""
        known = self.manager.state.index.open.get(name) or self.manager.state.unsaved.get(name)
        return known.state if known is not None else self.client.status(name)

    def see(self, job: str, seconds: float = 120.0) -> JobState:
        """Let the manager work until the job has ended; return it."""
        self.until(lambda: os.path.exists(self.layout.state(job)) and self.job(job).ended, seconds)
        return self.job(job)

    def done(self, job: str, task: str) -> Done:
        """Return how a task ended."""
        status = self.job(job).tasks[task].status
        assert isinstance(status, Done)
        return status

    def file(self, job: str, name: str) -> Path:
        """Return a file in a job's workspace."""
        return Path(self.layout.workspace(job), name)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    """A manager; whatever its jobs leave running is ended."""
    made = Local(tmp_path)
    yield made
    made.manager.close()
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("AIR_WORKSPACE", "").startswith(str(tmp_path))
        except (psutil.Error, OSError):
            continue
        if mine:
            process.kill()


def choose_runner(local: Local, *, is_native: bool) -> None:
    """Have tasks run by the native runner, or by its script; skip the test where there is no native one."""
    if is_native and native.this_machine() not in native.builds():
        pytest.skip("there is no native runner here")
    chosen = {name: file for name, file in runner_files().items() if is_native or "/" not in name}
    shutil.rmtree(local.layout.bin)
    local.restart(runner_files=chosen)


def test_tasks_that_a_running_task_queues(local: Local) -> None:
    """What a task queues runs once, in order, with its ids; what waits for the tree gets all results."""
    line = 'printf \'%s\\n\' \'{"id": "b", "command": "echo 2 >$AIR_RESULT"}\' \'{"command": "true"}\' >>"$AIR_QUEUE"'
    merge = 'cp "$AIR_INPUTS" "$AIR_WORKSPACE/inputs"'
    local.submit("j", {"id": "a", "command": line}, {"id": "merge", "command": merge, "after": ["a"]})
    state = local.see("j")
    assert {name: t.phase for name, t in state.tasks.items()} == dict.fromkeys(("a", "merge", "b", "_1-2"), "succeeded")
    assert [t.queued_by for t in state.tasks.values()] == [None, None, "a", "a"]
    assert json.loads(local.file("j", "inputs").read_text(encoding="utf-8"))["b"] == 2
    assert state.usage.runs == 4
    assert state.usage.runner_seconds == pytest.approx(state.usage.work_seconds + state.usage.idle_seconds)


def test_queue_from_python(local: Local) -> None:
    """The in-task API, imported from `bin/`, queues and hands over a result."""
    code = "from air_executor import queue_tasks, set_result; queue_tasks([{'command': 'true'}]); set_result([1])"
    local.submit("j", {"id": "a", "command": [PYTHON, "-c", code]})
    state = local.see("j")
    assert (state.phase, len(state.tasks), state.tasks["a"].result) == ("succeeded", 2, [1])


def test_failed_run_queues_nothing(local: Local) -> None:
    """A run that fails after it queued leaves nothing of that; its retry queues once."""
    script = 'echo \'{"id": "b", "command": "true"}\' >>"$AIR_QUEUE"; [ "$AIR_ATTEMPT" = 2 ]'
    local.submit("j", {"id": "a", "command": script, "retries": 1})
    state = local.see("j")
    assert state.phase == "succeeded"
    assert list(state.tasks) == ["a", "b"]
    assert [a.reason for a in state.tasks["a"].attempts] == ["error", "ok"]


def test_task_that_removes_the_workspace(local: Local) -> None:
    """A task that removes the workspace leaves the next one an empty one, not none."""
    follower = {"id": "b", "command": 'echo here >"$AIR_WORKSPACE/file"'}
    local.submit("j", {"id": "a", "command": 'rm -rf "$AIR_WORKSPACE"'}, follower)
    assert local.see("j").phase == "succeeded"
    assert local.file("j", "file").read_text(encoding="utf-8") == "here\n"


def test_command_that_does_not_exist(local: Local) -> None:
    """A command that does not exist fails with 127, never `completed`."""
    local.submit("j", {"id": "a", "command": ["no-such-command-here"]})
    assert local.see("j").phase == "failed"
    assert local.done("j", "a").exit_code == 127


def test_timeout_then_grace(local: Local) -> None:
    """A task past its timeout gets TERM, then KILL after its grace; the reason is `timeout`."""
    local.submit("j", {"id": "a", "command": "trap '' TERM; sleep 600 & wait; wait", "timeout": 0.2, "grace": 0.2})
    begun = time.monotonic()
    assert local.see("j").phase == "failed"
    assert local.done("j", "a").reason == "timeout"
    assert time.monotonic() - begun < 600


def test_a_deadline_is_not_the_timeout_of_a_task(local: Local) -> None:
    """What it stopped and what it kept from starting say so, also for a task with a timeout of its own."""
    long = {"command": "sleep 60", "grace": 1, "timeout": "1m"}
    local.submit("j", {"id": "a", **long}, {"id": "b", **long}, deadline="1s")
    state = local.see("j")
    context = ExplainContext(time.time())
    assert explain_task(state, state.tasks["a"], context) == "task a failed: the deadline of its job passed"
    assert explain_task(state, state.tasks["b"], context) == "task b was skipped: the deadline of its job (1s) passed"


def test_cancel_stops_the_process(local: Local) -> None:
    """Cancelling a job ends its running task and what that started; the rest is cancelled with it."""
    command = 'sleep 600 & echo $! >"$AIR_WORKSPACE/child"; wait'
    local.submit("j", {"id": "a", "command": command, "grace": 1}, {"id": "b", "command": "true"})
    local.until(lambda: local.file("j", "child").exists() and local.file("j", "child").read_text() != "")
    child = psutil.Process(int(local.file("j", "child").read_text()))
    local.client.inbox.post(Request("cancel", "j"), time.time())
    state = local.see("j")
    assert (state.phase, {t.phase for t in state.tasks.values()}) == ("cancelled", {"cancelled"})
    local.until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("is_native", [True, False], ids=["native", "script"])
def test_what_keeps_an_ended_run_open_is_said(local: Local, *, is_native: bool) -> None:
    """Its task has ended with 0, but a process that ignores TERM still has the slot."""
    choose_runner(local, is_native=is_native)
    left = "(trap '' TERM; while [ ! -e gate ]; do sleep 0.05; done) &"
    local.submit("j", {"id": "a", "command": f"cd $AIR_WORKSPACE; {left}", "grace": 1000})

    def said() -> str:
        job = local.client.status("j")
        return explain_job(job, local.client.explain_context(job, local.client.job_facts(), time.time(), None))

    words = "its command has ended, but processes" if is_native else "its runner has ended, but process "
    local.until(lambda: f"; task a: {words}" in said())
    local.file("j", "gate").touch()
    assert local.see("j").phase == "succeeded"


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ('rm -f "$AIR_QUEUE"; mkfifo "$AIR_QUEUE"', "rejected"),
        ('rm -f "$AIR_QUEUE"; ln -s /etc/passwd "$AIR_QUEUE"', "rejected"),
        ('rm -f "$AIR_QUEUE"; mkdir "$AIR_QUEUE"', "rejected"),
        ('truncate -s 50G "$AIR_RESULT"', "rejected"),
        ('echo "[" >"$AIR_RESULT"', "rejected"),
        ('echo 1e999 >"$AIR_RESULT"', "rejected"),
        ('out=${AIR_QUEUE%/*}; echo "{\\"exit_code\\": 1e999}" >"$out/exit.json"; kill -9 $PPID', "lost"),
        ('rm -rf "${AIR_QUEUE%/*}"', "lost"),
        ('truncate -s 50G "$AIR_QUEUE"', "rejected"),
        ('echo \'{"command": "x", "nonsense": 1}\' >>"$AIR_QUEUE"', "rejected"),
        ('out=${AIR_QUEUE%/*}; rm -f "$out/output.log"; ln -s /etc/passwd "$out/output.log"', "ok"),
    ],
)
def test_hostile_files(local: Local, task: str, reason: str) -> None:
    """What a task makes of its files neither stops the manager nor leads it elsewhere."""
    local.submit("j", {"id": "a", "command": task})
    local.submit("other", {"id": "b", "command": "true"})
    local.see("j")
    assert local.done("j", "a").reason == reason
    assert local.see("other").phase == "succeeded"


def test_output_that_is_no_text(local: Local) -> None:
    """Bytes that are no UTF-8, terminal markup and 200 KB on stderr reach the log as they are."""
    code = "import os; os.write(1, b'\\xff\\xfe[bold]\\x1b[31m'); os.write(2, b'e' * 200_000)"
    local.submit("j", {"id": "a", "command": [PYTHON, "-c", code]})
    assert local.see("j").phase == "succeeded"
    log = local.client.log("j", "a", 1).read_bytes()
    assert log.startswith(b"\xff\xfe[bold]\x1b[31m")
    assert len(log) == 200_000 + 13


@pytest.mark.parametrize("is_native", [True, False])
def test_a_run_leaves_few_inodes(local: Local, *, is_native: bool) -> None:
    """A million tasks a day need not be ten million files: a directory and three files at most."""
    choose_runner(local, is_native=is_native)
    script = "#!/bin/sh\necho hello; cat $AIR_INPUTS; sleep 1.5; echo more"
    everything = f"{script}; echo '{{\"command\": \"true\"}}' >>$AIR_QUEUE; echo '[7,\n8]' >$AIR_RESULT"
    quick = everything.replace("sleep 1.5; ", "")
    local.submit(
        "j",
        {"id": "quiet", "command": "true"},
        {"id": "loud", "command": script},
        {"id": "all", "command": everything},
        {"id": "bad", "command": f"{everything}; exit 1"},
        {"id": "none", "command": ": >>$AIR_QUEUE; echo 9 >$AIR_RESULT"},
        {"id": "refused", "command": f"{quick}; echo '{{' >$AIR_RESULT", "retries": 0},
        {"id": "large", "command": f"{quick}; seq 9999 >$AIR_RESULT", "retries": 0},
        {"id": "killed", "command": "echo 9 >$AIR_RESULT; echo 9 >$AIR_RESULT.7.tmp"},
        {"id": "both", "command": "echo { >$AIR_RESULT; echo 9 >$AIR_RESULT.7.tmp", "retries": 0},
        on_failure="continue",
    )
    job = local.see("j")
    local.manager.cycle()
    left = {path.name.partition("-")[2]: set(os.listdir(path)) for path in Path(local.layout.runs("j")).iterdir()}
    own = {"claim", "output.log"}
    queued, long = own | {"queue.jsonl"}, own | {"log-times"}
    assert left == {"quiet": own, "_3-1": own, "loud": long, "all": queued, "bad": queued, "none": queued} | {
        "refused": queued,
        "large": queued,
        "killed": own | {"result.json"},
        "both": own | {"result.json"},
    }
    assert [job.tasks[name].reason for name in ("refused", "large")] == ["rejected", "rejected"]
    assert job.tasks["all"].result == [7, 8]
    assert local.manager.run_dirs.left_behind("j", 4, "bad")[1].endswith(b'{"result": [7, 8]}\n')


def test_another_version_s_runner_starts_nothing(local: Local) -> None:
    """After an upgrade to an installation without a native runner, the old one goes on with its runs alone."""
    if native.this_machine() not in native.builds():
        pytest.skip("there is no native runner here")
    where = 'echo "${PATH##*:}"'
    local.submit("old", {"id": "a", "command": f'{where}; while [ ! -e "$AIR_WORKSPACE/go" ]; do sleep 0.02; done'})
    local.until(lambda: local.client.log("old", "a", 1).exists() and bool(local.client.log("old", "a", 1).read_text()))
    local.restart(runner_files={name: file for name, file in runner_files().items() if "/" not in name})
    local.submit("new", {"id": "a", "command": where})
    assert local.see("new").phase == "succeeded"
    local.file("old", "go").touch()
    assert local.see("old").phase == "succeeded"
    used = {name: local.client.log(name, "a", 1).read_text() for name in ("old", "new")}
    assert used == {"old": f"{local.layout.bin}/{native.this_machine()}\n", "new": f"{local.layout.bin}\n"}


def test_grandchild_that_queues_after_the_end(local: Local) -> None:
    """The slot is taken while a grandchild lives; what that queues meanwhile counts, what comes later does not."""
    wait = 'while [ ! -e "$AIR_WORKSPACE/go" ]; do sleep 0.02; done'
    late = (
        f'trap \'\' TERM; : >"$AIR_WORKSPACE/deaf"; {wait}; echo \'{{"id": "late", "command": "true"}}\' >>"$AIR_QUEUE"'
    )
    command = f'( {late} ) & until [ -e "$AIR_WORKSPACE/deaf" ]; do sleep 0.02; done'
    local.submit("j", {"id": "a", "command": command, "grace": 600}, {"id": "b", "command": "true"})
    out = Path(local.layout.run("j", 1, "a"))
    local.until(lambda: local.manager.run_dirs.exit("j", 1, "a") is not None)
    for _ in range(5):
        local.manager.cycle()
    assert {t.phase for t in local.job("j").tasks.values()} == {"running", "queued"}
    local.file("j", "go").touch()
    state = local.see("j")
    assert {name: t.phase for name, t in state.tasks.items()} == dict.fromkeys(("a", "b", "late"), "succeeded")
    with (out / "queue.jsonl").open("a") as queue:
        queue.write('{"command": "true"}\n')
    local.manager.cycle()
    local.restart()
    local.manager.cycle()
    assert set(local.job("j").tasks) == {"a", "b", "late"}


@pytest.mark.parametrize("keeps_the_lock", [True, False])
def test_shell_of_the_runner_is_killed(local: Local, *, keeps_the_lock: bool) -> None:
    """The runner's shell is killed while its task lives: the task is found and ended before the next run begins."""
    code = (
        "import os, time; w = os.environ['AIR_WORKSPACE']\n"
        "alive = f'{w}/alive-{os.getpid()}'; open(alive, 'w').close()\n"
        "if os.environ['AIR_ATTEMPT'] == '2': raise SystemExit\n"
        "time.sleep(600)"
    )
    python = [PYTHON, "-c", code] if keeps_the_lock else ["sh", "-c", f'exec 9>&-; exec {PYTHON} -c "{code}"']
    local.submit("j", {"id": "a", "command": python, "grace": 0.5})
    local.until(lambda: bool(list(Path(local.layout.workspace("j")).glob("alive-*"))))
    pid = int(next(Path(local.layout.workspace("j")).glob("alive-*")).name.partition("-")[2])
    task = psutil.Process(pid)
    runner = task
    while "air-runner" not in " ".join(runner.cmdline()[:2]):
        parent = runner.parent()
        assert parent is not None
        runner = parent
    os.kill(runner.pid, signal.SIGKILL)
    local.until(lambda: local.job("j").usage.runs == 1)
    assert not task.is_running() or task.status() == psutil.STATUS_ZOMBIE
    assert local.job("j").tasks["a"].attempts[0].reason == "lost"
    assert local.see("j").phase == "succeeded"


def test_polling_finds_everything(local: Local) -> None:
    """With events switched off jobs, requests and ends are found all the same."""
    assert local.manager.options.events is False
    local.submit("j", {"id": "a", "command": "true"})
    assert local.see("j").phase == "succeeded"
    local.client.inbox.post(Request("add", "j", tasks=[{"id": "b", "command": "true"}]), time.time())
    local.until(lambda: "b" in local.job("j").tasks)
    assert local.see("j").phase == "succeeded"


def test_secrets_are_nowhere_on_the_volume(local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task sees its secrets, one from a file and one from the manager; nothing that is written holds them."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "FROM_FILE").write_text("s3cr3t-in-a-file\n")
    monkeypatch.setenv("AIR_SECRET_FROM_ENV", "s3cr3t-in-env")
    local.restart(secrets_dir=str(folder))
    command = '[ "$FROM_FILE" = s3cr3t-in-a-file ] && [ "$FROM_ENV" = s3cr3t-in-env ] && [ -z "$AIR_SECRET_FROM_ENV" ]'
    local.submit("j", {"id": "a", "command": command, "secrets": ["FROM_FILE", "FROM_ENV"]})
    local.submit("k", {"id": "a", "command": "true", "secrets": ["NOWHERE"], "retries": 3})
    assert local.see("j").phase == "succeeded"
    local.see("k")
    assert local.done("k", "a").reason == "start-failed"
    assert "NOWHERE" in (local.done("k", "a").message or "")
    (folder / "WIDE").write_bytes("s3cr3t-of-16-bits".encode("utf-16"))
    local.submit("l", {"id": "a", "command": "true", "secrets": ["WIDE"], "retries": 3})
    local.see("l")
    assert (
        local.done("l", "a").message
        == "secret WIDE contains a NUL byte, which no variable can hold; encode it, as base64"
    )
    assert len(local.job("k").tasks["a"].attempts) == 1
    # `[` is a builtin: no process list shows the command's expansion either.
    for path in Path(local.layout.root).rglob("*"):
        if path.is_file() and path.name != "output.log":
            text = path.read_bytes().replace(command.encode(), b"").replace(json.dumps(command)[1:-1].encode(), b"")
            assert b"s3cr3t" not in text, path


def test_whole_job_from_a_task(local: Local) -> None:
    """A task submits a whole job with one line; it runs when the task has succeeded."""
    child = json.dumps({"job": {"id": "child", "tasks": [{"id": "c", "command": "true"}]}})
    local.submit("j", {"id": "a", "command": f"echo '{child}' >>\"$AIR_QUEUE\""})
    assert local.see("j").phase == "succeeded"
    state = local.see("child")
    assert (state.phase, state.submitted_by) == ("succeeded", f"{local.job('j').uid}-1")


def test_runners_stopped_for_the_managers_own_sake(local: Local) -> None:
    """`--stop-runners` puts running tasks back into their place at no charge; the next manager runs them."""
    script = '[ -e "$AIR_WORKSPACE/again" ] || { touch "$AIR_WORKSPACE/again"; sleep 600; }'
    local.submit("j", {"id": "a", "command": script, "grace": 1}, {"id": "b", "command": "true"})
    local.until(lambda: local.file("j", "again").exists())
    local.manager.stop(runners=True)
    local.manager.run()
    assert {name: t.phase for name, t in local.client.status("j").tasks.items()} == {"a": "queued", "b": "queued"}
    local.manager = local.begin()
    state = local.see("j")
    assert state.phase == "succeeded"
    assert (state.tasks["a"].runs, state.tasks["a"].charged) == (1, 0)
