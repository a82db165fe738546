"""What a person sees in a terminal: whole sessions, in a small and in a large window, and in a pipe."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from air_executor.client import Client
from tests.cli.conftest import Outcome, eventually
from tests.cli.made_jobs import create, ended
from tests.cli.screen import SIZES, Screen
from tests.docs.pages import blocks
from tests.records import make_task

Air = Callable[..., Outcome]
Call = Callable[..., Outcome]

FAN = """
id: fan
max_runners: 4
tasks:
- id: discover
  command: |
    for i in $(seq 20); do
      command="echo part $i; until test -e go; do sleep 0.1; done"
      echo "{\\"id\\": \\"part-$i\\", \\"command\\": \\"$command\\"}" >>"$AIR_QUEUE"
    done
- {id: merge, after: [discover], command: echo merged}
"""


NARROW = [SIZES[0], *(pytest.param(size, marks=pytest.mark.nightly) for size in SIZES[1:])]
"""For what takes long and has no layout that depends on the width; all sizes every night."""


@pytest.mark.parametrize("size", SIZES)
def test_a_failing_job(project: Path, client: Client, size: tuple[int, int]) -> None:
    """The last lines say what failed, why, and what to type next; the terminal is as it was."""
    bad = {"id": "bad", "command": "for i in $(seq 30); do echo line $i; done; echo oops >&2; exit 3"}
    (project / "f.yaml").write_text(json.dumps({"id": "f", "tasks": [bad, {"id": "never", "command": "true"}]}))
    with Screen("run", "f.yaml", size=size) as screen:
        assert screen.end() == 1
        shown = [text for text in screen.lines if text]
        assert shown[-2:] == [
            "next: air-executor logs f bad",
            "      air-executor retry f && air-executor run f",
        ]
        assert "✗ f/bad failed: exit code 3" in shown
        assert "    oops" in shown
        assert "bad | line 30" in screen.all_text
        assert "✗ bad failed in" in screen.all_text
        assert "- never skipped" in screen.all_text
        assert not screen.cursor_hidden


@pytest.mark.parametrize("size", SIZES)
def test_a_wide_fan_out(project: Path, client: Client, size: tuple[int, int]) -> None:
    """While it runs, the bar and the running tasks stand below the output; at the end, the bar is gone."""
    (project / "fan.yaml").write_text(FAN)
    with Screen("run", "--max-runners", "4", "fan.yaml", size=size, environ={"AIR_MAX_RUNNERS": "4"}) as screen:
        text = screen.until(lambda text: "4 running" in text and "part-4 | part 4" in text)
        assert re.search(r"fan ━*╌* 1/22 · 4 running · 17 queued", text)
        assert len(re.findall("▸ part-[1-4] ", text)) == 4
        assert max(map(len, screen.lines)) <= size[0]
        (project / "go").touch()
        assert screen.end() == 0
        assert screen.all_text.count("fan ━") == 0
        assert len(re.findall(r"✓ part-\d+ succeeded in", screen.all_text)) == 20
        assert "merge | merged" in screen.all_text
        assert "fan succeeded: 22 succeeded" in screen.lines


@pytest.mark.parametrize("size", NARROW)
def test_ctrl_c_and_resume(project: Path, client: Client, size: tuple[int, int]) -> None:
    """Ctrl-C says how to continue, and that command does."""
    command = ("sh", "-c", "echo attempt $AIR_ATTEMPT; touch ready; test -e go || sleep 60")
    with Screen("run", "long", "--", *command, size=size) as screen:
        screen.until(lambda text: "attempt" in text)
        eventually((project / "ready").exists, "the task runs")
        screen.press("\x03")
        assert screen.end() == 130
        assert "job long is paused; to continue: `air-executor run long`" in screen.lines
        assert not screen.cursor_hidden
    (project / "go").touch()
    with Screen("run", "long", size=size) as screen:
        assert screen.end() == 0
        assert "long succeeded: 1 succeeded" in screen.lines
        assert screen.all_text.count("attempt") == 1


@pytest.mark.parametrize("size", SIZES)
def test_watch_scrolls_and_ends_with_q(project: Path, client: Client, size: tuple[int, int]) -> None:
    """A page longer than the window says what it hides; keys move the window; `q` ends it."""
    create(client, "j", *(ended(f"task-{n}", seq=n + 1) for n in range(60)))
    with Screen("status", "j", "--watch", size=size) as screen:
        screen.until(lambda text: "q quits" in text)
        assert screen.lines[-1].startswith(f"lines 1-{size[1] - 1} of 67 · ")
        assert screen.cursor_hidden
        screen.press("G")
        assert "task-59" in screen.until(lambda text: "-67 of 67" in text)
        screen.press("g")
        screen.until(lambda text: "lines 1-" in text)
        screen.press("\x1b[B")
        assert screen.until(lambda text: "lines 2-" in text).startswith("tasks: 60 ✓")
        screen.press("q")
        assert screen.end() == 0
        assert not screen.cursor_hidden


def test_a_dumb_terminal_gets_lines(project: Path, client: Client) -> None:
    """Nothing is drawn over: `run` prints lines, and `--watch` a page for each change."""
    create(client, "j", ended("a"))
    for arguments in (("run", "h", "--", "echo", "hello"), ("status", "j", "--watch")):
        with Screen(*arguments, environ={"TERM": "dumb"}) as screen:
            assert screen.end() == 0
            assert "\x1b" not in screen.all_text
            assert not screen.cursor_hidden
            assert next(text for text in screen.lines if text) in ("hello", "j succeeded")


def test_watch_in_a_pipe_prints_each_change(call: Call, client: Client) -> None:
    """It ends with the job, and prints nothing twice."""
    create(client, "j", ended("a"))
    done = call("status", "j", "--watch")
    assert (done.code, done.out.count("j succeeded")) == (0, 1)


@pytest.mark.parametrize(
    ("mistake", "code", "said"),
    [
        ("run", 2, "Missing argument"),
        ("run nosuch.yaml", 3, "nosuch.yaml"),
        ("run -- echo", 2, "no job id"),
        ("explain taken nosuch", 3, "has no task nosuch"),
        ("run bad.yaml", 2, "comand"),
        ("status nosuch", 3, "no job nosuch"),
        ("logs taken nosuch", 3, "has no task nosuch"),
        ("submit taken -- true", 4, "already exists"),
        ("run x --timeout soon -- true", 2, "timeout"),
        ("cancel", 2, "give the id of a job"),
        ("status --phase broken", 2, "must be one of"),
        ("logs taken --since yesterday", 2, "must be a duration"),
        ("run bda.yaml", 3, "there is no such file; did you mean bad.yaml?"),
        ("run bad.yml", 3, "there is no such file; did you mean bad.yaml?"),
        ("run xyz.yaml", 3, "error: xyz.yaml: there is no such file\n"),
        ("run taken echo hi", 2, "a command after `--`: `taken -- echo hi`"),
        ("cancel taken aa", 3, "has no task aa; did you mean a?"),
        ("wait taken --timeout soon", 2, "--timeout: must be a number of seconds"),
        ("prune --older-than x", 2, "--older-than: must be a number of seconds"),
        ("schedule", 2, "schedule: give one of apply, list, next"),
        ("token crate x", 2, "token crate: unknown; did you mean create?"),
        ("workspace", 2, "workspace: give one of push, pull, list"),
    ],
)
def test_common_mistakes(air: Air, client: Client, mistake: str, code: int, said: str) -> None:
    """One short message on stderr that says what is wrong, and nothing on stdout."""
    create(client, "taken", ended("a"))
    Path("bad.yaml").write_text("id: bad\ntasks: [{comand: echo}]\n")
    done = air(*mistake.split())
    assert (done.code, done.out) == (code, ""), done
    assert said in done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 8


@pytest.mark.parametrize("size", NARROW)
def test_the_first_job_of_the_readme_twice(project: Path, size: tuple[int, int]) -> None:
    """Each command works in a terminal, and again: then it is about the next run."""
    job = next(block.text for block in blocks("yaml") if block.text.startswith("name: hello"))
    (project / "hello.yaml").write_text(job)
    commands = next(block.text for block in blocks("sh") if "run hello.yaml" in block.text)
    for again in (False, True):
        for text in commands.splitlines():
            with Screen(*text.split("#")[0].split()[1:], size=size) as screen:
                code = screen.end()
                assert max(map(len, screen.lines)) <= size[0]
                assert code == 0, screen.all_text
                assert any(part in screen.all_text for part in ("everybody was greeted", "succeeded"))
                if "explain" not in text and "logs" not in text:
                    assert f"hello-{1 + again} succeeded" in screen.all_text


def test_the_picture_of_the_readme_is_of_this_program() -> None:
    """It loads nothing from the network, and has what the commands print today."""
    picture = Path(__file__).parents[2].joinpath("docs", "session.svg").read_text(encoding="utf-8")
    text = re.sub("<[^>]*>", "", picture).replace("&#160;", " ")
    assert "url(" not in re.sub(r"url\(#[^)]*\)", "", picture)
    assert os.path.basename("docs/session.svg") in Path(__file__).parents[2].joinpath("README.md").read_text()
    for part in ("air-executor run hello.yaml", "Hello, Paris", "hello-1 succeeded: 5 succeeded", "tasks: 5 ✓"):
        assert part in text, part


@pytest.mark.parametrize("size", SIZES)
def test_no_row_of_a_table_is_torn(project: Path, client: Client, size: tuple[int, int]) -> None:
    """Where the columns do not fit, the least important ones are left out, and reasons stand below their rows."""
    states = [ended(f"t{n}", phase="succeeded" if n % 2 else "failed", seq=n + 1) for n in range(4)]
    long = "a-job-id-of-some-length-indeed"
    job = create(client, long, *states, make_task("later", {"after": ["t0"]}), phase="failed")
    job.usage.cost, job.usage.currency = 0.0123456, "EUR"
    client.jobs.checkpoint(job, client.layout.tmp)
    with Screen("status", size=size) as screen:
        assert screen.end() == 0
        row = next(text for text in screen.lines if text.startswith(long))
        assert "2 ✓ 2 ✗ 1 queued" in row
        assert ("age" in screen.lines[0]) == (size[0] > 80)
        assert max(map(len, screen.lines)) <= size[0]
        assert screen.lines[2].strip() == "task t0: exit code 0 (1 more failed or were cancelled)"
