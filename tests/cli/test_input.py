"""What one may write: options, files of jobs and tasks, scripts, other words for commands, nearly right ids."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from air_executor.client import Client
from tests.cli.conftest import Outcome
from tests.cli.made_jobs import create, ended
from tests.conftest import wait_for

Air = Callable[..., Outcome]
Start = Callable[..., "subprocess.Popen[str]"]

TWO_JOBS = """\
id: last
after: [first]
tasks: [{command: echo last}]
---
id: first
tasks: [{command: echo first}]
"""


def test_options_of_a_job_and_a_task(air: Air, client: Client) -> None:
    """What a job file can say most often, `submit` and `add` take as options."""
    options = (
        "--image python:3.12 --memory 1Gi --cpu 0.5 --secret TOKEN --label team=a --label b= --description".split()
    )
    assert air("submit", "j", *options, "One.\nTwo.", "--", "true").code == 0
    assert air("add", "j", "--id", "Two.v2", *options, "Why.", "--", "true").code == 0
    job = client.status("j")
    assert (job.spec.description, job.spec.labels) == ("One.\nTwo.", {"team": "a", "b": ""})
    task = job.tasks["_1"]
    assert (task.image, task.secrets, task.description) == ("python:3.12", ["TOKEN"], None)
    assert task.resources is not None
    assert (task.resources.memory, task.resources.cpu) == (1 << 30, 0.5)
    [name] = client.inbox.pending()[-1:]
    request = client.inbox.read(name)
    assert request is not None
    [added] = request.tasks
    assert (added["id"], added["description"], added["labels"]) == ("Two.v2", "Why.", {"team": "a", "b": ""})
    assert "One.\nTwo.\n" in air("status", "j").out.replace(" \n", "\n")


def test_options_of_a_task_need_a_command(air: Air, project: Path) -> None:
    """A file says it itself; options of the job go with a file, labels in addition to its own."""
    (project / "job.yaml").write_text("id: j\nlabels: {a: b}\ntasks: [{command: x}]\n")
    done = air("submit", "job.yaml", "--memory", "1Gi", "--secret", "A")
    assert (done.code, done.err) == (
        2,
        "error: --memory, --secret: valid only with a command after `--`; with a file, set it in the file\n",
    )
    assert air("submit", "job.yaml", "--label", "c=d", "--description", "x").code == 0
    spec = Client(project / ".air-executor").status("j").spec
    assert (spec.labels, spec.description) == ({"a": "b", "c": "d"}, "x")
    assert "--label: must be NAME=VALUE, got 'c'" in air("submit", "k", "--label", "c", "--", "true").err


def test_a_long_line_is_shown_around_the_problem(air: Air, project: Path) -> None:
    """Within 80 columns, so that the pointer stands where it belongs."""
    filler = ", ".join(f"V{number}: x" for number in range(20))
    (project / "job.yaml").write_text(
        f"id: j\ntasks:\n  - {{command: x, env: {{{filler}}}, retires: 3, labels: {{a: b}}}}\n"
    )
    *_, shown, pointer = air("submit", "job.yaml").err.splitlines()
    assert max(len(shown), len(pointer)) <= 80
    assert shown[pointer.index("^") :].startswith("3, labels")
    assert ("| …" in shown, shown.endswith("…")) == (True, False)


def test_a_file_of_several_jobs(air: Air, client: Client, project: Path) -> None:
    """All are checked before the first is submitted; they may wait for each other in any order."""
    (project / "jobs.yaml").write_text(TWO_JOBS)
    assert air("submit", "first", "--", "true").code == 0
    done = air("submit", "jobs.yaml")
    assert (done.code, client.jobs.ids()) == (4, ["first"])
    client.jobs.remove("first")
    (project / "wrong.yaml").write_text(f"{TWO_JOBS}---\nid: third\nafter: [nobody]\ntasks: [{{command: x}}]\n")
    assert "after: job nobody does not exist" in air("submit", "wrong.yaml").err
    (project / "cycle.yaml").write_text(TWO_JOBS.replace("id: first", "id: first\nafter: [last]"))
    assert "would wait for each other for ever: last -> first -> last" in air("submit", "cycle.yaml").err
    assert client.jobs.ids() == []
    assert air("submit", "jobs.yaml").out == "last\nfirst\n"
    assert client.status("last").after_uids == {"first": client.status("first").uid}


def test_run_takes_all_jobs_of_a_file(call: Callable[..., Outcome], client: Client, project: Path) -> None:
    """`run` ends when all have ended, and its exit code is that of all."""
    (project / "jobs.yaml").write_text(TWO_JOBS)
    done = call("run", "jobs.yaml")
    assert done.code == 0, done.err
    assert [client.status(name).phase for name in ("first", "last")] == ["succeeded"] * 2
    (project / "jobs.yaml").write_text(TWO_JOBS.replace("echo last", "exit 3"))
    assert call("run", "jobs.yaml", "--replace").code == 1
    assert [client.status(name).phase for name in ("first", "last")] == ["succeeded", "failed"]


def test_add_takes_yaml(air: Air, client: Client, project: Path) -> None:
    """A list of tasks, as in a job file."""
    air("submit", "j", "--", "true")
    (project / "more.yaml").write_text("tasks:\n  - {id: a, command: x}\n  - {id: b, after: [a], command: y}\n")
    assert air("add", "j", "more.yaml").code == 0
    request = client.inbox.read(client.inbox.pending()[-1])
    assert request is not None
    assert [task["id"] for task in request.tasks] == ["a", "b"]


def test_a_command_is_a_script(call: Callable[..., Outcome], client: Client, project: Path) -> None:
    """Its first line names the interpreter; it may have more lines than a shell's argument has room for quotes."""
    (project / "job.yaml").write_text(
        "id: j\ntasks:\n  - id: python\n    command: |\n      #!/usr/bin/env python3\n      import sys, os\n"
        """      print(f"it's {os.path.basename(sys.argv[0])!r}")\n"""
        "  - id: sh\n    command: |\n      #!/bin/sh -e\n      false\n      echo unreached\n"
        """  - {id: none, when: always, command: "#!/no/such/program\\nx"}\n"""
    )
    assert call("run", "job.yaml").code == 1
    tasks = client.status("j").tasks
    assert client.log("j", "python", 1).read_text() == "it's 'script'\n"
    assert (tasks["sh"].exit_code, client.log("j", "sh", 2).read_text()) == (1, "")
    assert (tasks["none"].exit_code, tasks["none"].message) == (127, "command not found: /no/such/program")


def test_an_ended_job_is_run_again(call: Callable[..., Outcome], client: Client, project: Path) -> None:
    """A second run says how; with --replace the first is in the archive, with its log."""
    (project / "job.yaml").write_text("id: j\ntasks: [{command: echo out}]\n")
    assert call("run", "job.yaml").code == 0
    again = call("run", "job.yaml")
    said = "error: job j already exists and has already ended (succeeded); run it again with --replace"
    assert (again.code, again.err) == (4, f"{said}, or choose another id\n")
    first = client.status("j")
    assert "job j has already ended" in call("run", "j").err
    assert call("run", "job.yaml", "--replace").code == 0
    assert client.status("j").uid != first.uid
    assert client.status("j", first.uid).phase == "succeeded"
    assert Path(f"{client.layout.archive}/j-{first.uid}/runs/1-_1/output.log").read_text() == "out\n"
    assert call("run", "j", "--replace", "--", "true").code == 0


def test_what_has_not_ended_is_never_replaced(air: Air, client: Client) -> None:
    """Neither a job that is queued or runs, nor one that an unfinished job waits for; nothing is submitted then."""
    air("submit", "queued", "--", "true")
    done = air("submit", "queued", "--replace", "--", "true")
    assert (done.code, "job queued is queued; only an ended job can be replaced" in done.err) == (4, True)
    old = create(client, "old", ended("a"))
    air("submit", "second", "--after", "old", "--", "true")
    done = air("submit", "old", "--replace", "--", "true")
    assert (done.code, "job old cannot be replaced: job second waits for it" in done.err) == (4, True)
    assert client.status("old").uid == old.uid


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("status", "nihgtly"), "no job nihgtly in "),
        (("cancel", "Nightyl"), "; did you mean Nightly?"),
        (("logs", "Nightly", "fecth"), "job Nightly has no task fecth; did you mean fetch?"),
        (("explain", "Nightly", "fetsh"), "job Nightly has no task fetsh; did you mean fetch?"),
        (("run", "Nightyl"), "Nightyl: no such job file; did you mean Nightly?"),
        (("run", "job.yml"), "job.yml: there is no such file"),
        (("run", "Nightly", "--replace"), "Nightly: no such job file; it is a job: to run that again, give its file"),
        (("run", "."), ".: no such job file; it is a folder"),
        (("completion", "tcsh"), ": 'tcsh' is not one of 'bash', 'zsh', 'fish'."),
        (
            ("submit", "x", "--max-runners", "ten", "--", "true"),
            "error: --max-runners: must be a whole number, got 'ten'",
        ),
        (("logs", "Nightly", "-n", "-1"), "error: --tail: must be at least 0, got '-1'"),
        (("stauts",), "No such command 'stauts'. Did you mean status?"),
        (("sumbit", "x"), "Did you mean submit?"),
        (("job.yaml",), "No such command 'job.yaml'. To run a job file: air-executor run job.yaml"),
        (("help", "stauts"), "Did you mean status?"),
    ],
)
def test_nearly_right(air: Air, client: Client, words: tuple[str, ...], message: str) -> None:
    """What does not exist comes with what probably was meant."""
    create(client, "Nightly", ended("fetch"))
    done = air(*words)
    assert done.code in (2, 3)
    assert message in done.err


def test_earlier_names_of_generated_ids(air: Air, client: Client) -> None:
    """Commands that were written for an earlier version still find the task; an id of the user's comes first."""
    create(client, "j", ended("_1"), ended("_3-2", seq=2), ended("t3-2", seq=3))
    assert air("explain", "j", "t1").out.startswith("task _1 ")
    assert air("explain", "j", "t3-2").out.startswith("task t3-2 ")
    assert air("logs", "j", "t1").code == 0


def test_other_words_for_commands(air: Air, client: Client) -> None:
    """`ls` and `ps` are `status`; `-h` and `help` are `--help`."""
    create(client, "j", ended("a"))
    assert air("ls").out.split()[:3] == air("ps").out.split()[:3] == air("status").out.split()[:3]
    for words in (("status", "-h"), ("status", "--help"), ("help", "status")):
        assert air(*words).out.startswith("Usage: air-executor status")
    assert air("help").out == air("-h").out == air("--help").out


def test_demo(call: Callable[..., Outcome], project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no file and leaves nothing in the folder: a job that discovers its own work, in a temporary one."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = call("demo")
    assert done.code == 0, done.err
    assert list(project.iterdir()) == []
    [folder] = tmp_path.glob("air-executor-demo-*")
    job = Client(folder / ".air-executor").status("demo")
    assert (job.phase, job.tasks["email.mime"].queued_by) == ("succeeded", "email")
    assert f"air-executor --state-dir {folder}/.air-executor status demo" in done.err
    assert "more packages with" in done.out
    assert "page" not in done.err, "without a terminal nobody can end it"


def test_demo_shows_its_page(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the job runs, and after its end until Ctrl-C; the exit code is that of the job."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("BROWSER", "false")
    process = start("demo", "--page")
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    address = next(line for line in lines if line.startswith("its page: ")).split()[-1]
    assert "discover" in requests.get(address, timeout=60).text
    assert next(line for line in lines if "until Ctrl-C" in line).split()[4] == address
    head = re.compile(r'id="head".{,400}phase succeeded', re.DOTALL)
    wait_for(lambda: head.search(requests.get(address, timeout=60).text), what="its end on the page")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
