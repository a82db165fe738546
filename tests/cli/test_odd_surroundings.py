"""Commands in odd surroundings: readers that leave, folders that are gone or closed, signals that a shell ignores."""

from __future__ import annotations

import errno
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from air_executor.cli import terminal
from air_executor.client import Client
from air_executor.model.state import Running
from air_executor.store.layout import Layout
from tests.cli.conftest import Outcome, eventually

Start = Callable[..., "subprocess.Popen[str]"]
Call = Callable[..., Outcome]
Air = Callable[..., Outcome]

SLOW = "id: j\ntasks: [{id: a, command: sleep 0.3}, {id: b, command: 'sleep 1; touch b-done'}]\n"


def starts(client: Client) -> bool:
    """Tell whether a task of job j runs."""
    try:
        return any(isinstance(task.status, Running) for task in client.status("j").tasks.values())
    except Exception:  # noqa: BLE001 - not there yet
        return False


def test_run_goes_on_when_its_reader_leaves(start: Start, client: Client, project: Path) -> None:
    """The job ends as it would have, and stderr says what is missing."""
    (project / "j.yaml").write_text(SLOW.replace("sleep 0.3", "echo begun").replace("touch", "echo over; touch"))
    process = start("run", "j.yaml")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "a | begun\n"
    process.stdout.close()
    assert process.wait(60) == 0
    assert "cannot write to stdout" in process.stderr.read()
    assert client.status("j").phase == "succeeded"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["status", "schema", "help", "logs j"])
def test_output_that_cannot_be_written_is_no_bug(start: Start, project: Path, command: str) -> None:
    """A full disk behind stdout is said, and fails the command: its reader would miss something."""
    (project / "j.yaml").write_text("id: j\ntasks: [{command: echo one}]\n")
    if command == "logs j":
        assert start("run", "j.yaml").wait(60) == 0
    with open("/dev/full", "w", encoding="utf-8") as full:
        process = start(*command.split(), stdout=full)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 1
    assert complaint == "error: the output cannot be written: No space left on device\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_run_goes_on_where_its_output_does_not_fit(start: Start, client: Client, project: Path) -> None:
    """A full disk behind stdout and stderr costs the output, not the job."""
    (project / "j.yaml").write_text(SLOW)
    with open("/dev/full", "w", encoding="utf-8") as full:
        assert start("run", "j.yaml", stdout=full, stderr=full).wait(60) == 0
    assert client.status("j").phase == "succeeded"


@pytest.mark.parametrize("command", ["run j.yaml", "manager"])
def test_an_ignored_ctrl_c_stays_ignored(start: Start, client: Client, project: Path, command: str) -> None:
    """A script that starts it with `&` ignores SIGINT for it, so Ctrl-C in front of that script is not meant for it."""
    (project / "j.yaml").write_text(SLOW)
    if command == "manager":
        start("submit", "j.yaml").wait(60)
    process = start(*command.split(), preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    eventually(lambda: starts(client), "a task runs")
    process.send_signal(signal.SIGINT)
    eventually(lambda: client.status("j").ended, "the job ends")
    assert client.status("j").phase == "succeeded"
    process.terminate()


def test_a_lost_terminal_is_a_request_to_leave(start: Start, client: Client, project: Path) -> None:
    """SIGHUP leaves as SIGTERM does: the state is written, and stderr has the command that goes on."""
    (project / "j.yaml").write_text(SLOW)
    process = start("run", "j.yaml")
    eventually(lambda: starts(client), "a task runs")
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "to continue: `air-executor run j`" in said


def test_ctrl_backslash_shows_the_cursor_again(project: Path, client: Client) -> None:
    """The live view hides it, and SIGQUIT ends the program without unwinding anything."""
    (project / "j.yaml").write_text(SLOW)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "air_executor", "run", "j.yaml"]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs) as process:
        os.close(theirs)
        eventually(lambda: starts(client), "a task runs")
        seen = b""
        while b"\x1b[?25l" not in seen:
            seen += os.read(ours, 4096)
        process.send_signal(signal.SIGQUIT)
        try:
            while chunk := os.read(ours, 4096):
                seen += chunk
        except OSError as error:
            assert error.errno == errno.EIO  # noqa: PT017 - that is how the other end of a terminal leaves
        assert process.wait(60) == -signal.SIGQUIT
    os.close(ours)
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l")


def test_a_job_is_typed(project: Path, client: Client) -> None:
    """What waits for a terminal's input says so."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "air_executor", "submit", "-"]
    with subprocess.Popen(command, stdin=theirs, stderr=subprocess.PIPE, text=True) as process:
        os.close(theirs)
        assert process.stderr is not None
        assert process.stderr.readline() == "reading from this terminal, until Ctrl-D\n"
        os.write(ours, b"{id: j, tasks: [{command: 'true'}]}\n\x04")
        assert process.wait(60) == 0
    os.close(ours)
    assert client.status("j").phase == "queued"


def test_no_columns_are_an_unknown_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some tools export COLUMNS=0; a table must not vanish."""
    monkeypatch.setenv("COLUMNS", "0")
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        terminal.console.cache_clear()
        try:
            assert terminal.console().width >= 80
        finally:
            terminal.console.cache_clear()
    os.close(ours)


@pytest.mark.parametrize("arguments", [("status",), ("submit", "late", "--", "true"), ("run", "now", "--", "true")])
def test_a_deleted_working_directory_needs_an_absolute_state_dir(
    project: Path, tmp_path: Path, air: Air, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """With one it does not matter, and without one it is said; nothing is created again where it was."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setenv("PWD", str(gone))
    gone.rmdir()
    assert air("--state-dir", str(project / ".air-executor"), *arguments).code == 0
    monkeypatch.delenv("AIR_STATE_DIR")
    done = air(*arguments)
    assert done.code == 3
    assert "no longer exists; change to another one" in done.err
    assert not gone.exists()


@pytest.fixture
def close(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Close what lies at a path, and below, to this process: root could open it."""
    closed: list[str] = []
    real_open, real_list, real_scan = os.open, os.listdir, os.scandir

    def refuse(path: object) -> None:
        if any(f"{path}/".startswith(f"{one}/") for one in closed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def open_file(path: str, *rest: int, **named: int | None) -> int:
        refuse(path)
        return real_open(path, *rest, **named)  # type: ignore[arg-type]

    def list_dir(path: str = ".") -> list[str]:
        refuse(path)
        return real_list(path)

    def scan_dir(path: str = ".") -> object:
        refuse(path)
        return real_scan(path)

    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.setattr(os, "listdir", list_dir)
    monkeypatch.setattr(os, "scandir", scan_dir)
    return closed.append


def test_one_closed_job_folder_is_that_jobs_trouble(air: Air, client: Client, close: Callable[[str], None]) -> None:
    """Commands name it and go on, and other jobs start: another user's umask is nobody else's affair."""
    for name in ("closed", "next"):
        assert air("submit", name, "--", "true").code == 0
    close(client.layout.job("closed"))
    for command in (["status"], ["report"], ["explain", "next"], ["doctor"]):
        done = air(*command)
        assert "permission denied" in done.out + done.err or command[0] == "explain"
        assert done.code == (1 if command[0] == "doctor" else 0)
    assert air("run", "next").code == 0


@pytest.fixture
def lived_in(air: Air, client: Client, project: Path) -> Layout:
    """A state directory with a bit of everything: jobs, runs of a name, a schedule, an archive and a ledger."""
    Path("n.json").write_text(
        '{"name": "nightly", "schedule": {"every": "1h"}, "tasks": [{"id": "a", "command": "true"}]}'
    )
    for words in ("run gone -- true", "prune --older-than 0s", "prune --older-than 0s --delete", "run old -- true"):
        assert air(*words.split()).code == 0
    for words in ("prune --older-than 0s", "run n.json", "schedule apply n.json", "submit next -- true"):
        assert air(*words.split()).code == 0
    return client.layout


@pytest.mark.parametrize(
    "words",
    [  # the folder and the command
        "schedules: status",
        "schedules: schedule list",
        "archive: report",
        "archive: history nightly",
        "archive: status nightly",
        "ledger: report",
        "inbox: status",
        "inbox: doctor",
    ],
)
@pytest.mark.parametrize("how", ["closed", "a loop of links"])
def test_one_folder_that_cannot_be_read_costs_itself(
    lived_in: Layout, air: Air, close: Callable[[str], None], caplog: pytest.LogCaptureFixture, *, words: str, how: str
) -> None:
    """Commands show the rest, and say in one line what is missing."""
    name, _, command = words.partition(": ")
    path = Path(lived_in.root, name)
    if how == "closed":
        close(str(path))
    else:
        path.rename(path.with_name("moved"))
        path.symlink_to(path.name)
    done = air(*command.split())
    assert done.code == (1 if command == "doctor" else 0), done.err
    said = (done.out + done.err + caplog.text).splitlines()
    assert sum(f"cannot list {path}:" in line for line in said) == 1


def test_a_report_for_programs_says_what_is_missing(lived_in: Layout, air: Air, close: Callable[[str], None]) -> None:
    """Under names that no job has."""
    close(lived_in.archive)
    close(lived_in.ledger)
    found = json.loads(air("report", "--json").out)["unreadable"]
    assert [one["id"] for one in found] == ["ledger/", "archive/"]


@pytest.mark.parametrize("how", ["closed", "a link", "a folder"])
def test_one_month_of_the_ledger_that_cannot_be_read_costs_itself(
    lived_in: Layout, air: Air, close: Callable[[str], None], how: str
) -> None:
    """The report has the runs of the jobs that exist, and names the file."""
    (month,) = Path(lived_in.ledger).iterdir()
    if how == "closed":
        close(str(month))
    else:
        month.unlink()
        month.mkdir() if how == "a folder" else month.symlink_to(month.name)
    done = air("report")
    assert done.code == 0
    assert "old" in done.out
    assert f"ledger/{month.name} is not included, because it cannot be read" in done.err


def test_one_request_of_another_user_costs_itself(
    lived_in: Layout, air: Air, client: Client, close: Callable[[str], None]
) -> None:
    """It is named where all requests are, and keeps no command or manager from its work."""
    assert air("pause", "next").code == 0
    assert air("resume", "next").code == 0
    theirs = f"{lived_in.inbox}/{client.inbox.pending()[-2]}"
    close(theirs)
    assert theirs in air("status").out
    for words in ("status next", "explain next", "prune --dry-run", "doctor"):
        assert air(*words.split()).code == 0
    assert air("run", "next").code == 0
    assert client.status("next").phase == "succeeded"


def test_json_lines_end_with_a_newline_only(air: Air, client: Client, project: Path) -> None:
    """A line separator of Unicode is a character like any other in a JSON string."""
    (project / "lines").write_bytes(
        '{"id": "x", "command": "echo \u2028 \x85 x"}\r\n{"id": "y", "command": "true"}\n'.encode()
    )
    assert air("submit", "j", "--", "true").code == 0
    done = air("add", "j", "lines")
    assert done.code == 0
    (name,) = [one for one in client.inbox.pending() if (asked := client.inbox.read(one)) and asked.op == "add"]
    request = client.inbox.read(name)
    assert request is not None
    assert [task["command"] for task in request.tasks] == ["echo \u2028 \x85 x", "true"]


def test_help_survives_python_without_docstrings(project: Path) -> None:
    """`python -OO` drops them; the command line has words of its own."""
    for arguments, said in ((["--help"], "Run tasks on ephemeral runners."), (["run", "--help"], "Run a job to")):
        words = [sys.executable, "-OO", "-m", "air_executor", *arguments]
        assert said in subprocess.run(words, capture_output=True, text=True, check=True).stdout
