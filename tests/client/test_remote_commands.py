"""The command line on a server: the same words, outputs and exit codes as on files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from air_executor.client import credentials
from tests.api.conftest import ServedApi
from tests.client.conftest import PATIENCE, Air
from tests.conftest import wait_for
from tests.forked import Program

GATE = 'while [ ! -e "$AIR_WORKSPACE/gate" ]; do sleep 0.02; done'
FILE = """\
name: {name}
params: {{DAY: {{type: date, default: "2026-01-01"}}}}
tasks:
  - {{id: load, command: echo "load $DAY"}}
  - {{id: merge, after: [load], command: "echo merge; exit 3"}}
"""


def url(served: ServedApi) -> str:
    """Return the address of the server."""
    return f"http://127.0.0.1:{served.port}"


@pytest.fixture
def on_server(served: ServedApi, monkeypatch: pytest.MonkeyPatch, outside: Path) -> str:
    """The server and a token of an operator, from the environment."""
    monkeypatch.setenv("AIR_SERVER", url(served))
    monkeypatch.setenv("AIR_TOKEN", served.tokens["operator"])
    return url(served)


def release(served: ServedApi, job: str) -> None:
    """Let a job's task end that waits for its gate."""
    Path(served.client.layout.workspace(job), "gate").touch()


def plain(text: str) -> str:
    """Return a text without what differs from run to run: numbers, and spaces that depend on them."""
    text = re.sub(r"\b[0-9]+[dhm]([0-9]+[hms])*\b", "N", text)  # a duration may be of full minutes, or not
    return re.sub(r" +", " ", re.sub(r"(< )?[0-9][0-9.:TZ-]*(e-[0-9]+)?(ms|s)?", "N", text))


def test_each_command_prints_the_same_as_over_files(served: ServedApi, air: Air, on_server: str) -> None:
    """A job of a file with parameters, from its submission to its cost, with every command that knows servers."""
    root = served.client.layout.root
    seen: dict[str, list[tuple[int, str, str]]] = {"server": [], "files": []}
    for where, options in (("server", []), ("files", ["--state-dir", root])):
        name = "parity"
        Path("parity.yaml").write_text(FILE.format(name=name))
        Path("timed.yaml").write_text(
            f"name: timed-{where[0]}\nschedule: {{every: 1d}}\ntasks: [{{command: 'true'}}]\n"
        )
        job = f"{name}-{1 if where == 'server' else 2}"
        for words in (
            ["submit", "parity.yaml", "-p", "DAY=2026-01-02"],
            ["wait", job],
            ["status", job],
            ["logs", job],
            ["logs", job, "load", "--tail", "1", "-t"],
            ["logs", job, "merge", "--follow"],
            ["logs", job, "--run", "99"],
            ["logs", job, "load", "--attempt", "1"],
            ["logs", job, "load", "--attempt", "9"],
            ["explain", job, "merge"],
            ["explain", job],
            ["retry", job],
            ["wait", job],
            ["cancel", job],
            ["rerun", job, "load"],
            ["wait", job, "--timeout", "100s"],
            ["report", job, "--by", "pool"],
            ["report", job, "--csv"],
            ["add", job, "--", "true"],
            ["wait", job],
            ["history", "nobody"],
            ["status", "paritty"],
            ["approve", job],
            ["pause", job],
            ["submit", "parity.yml"],
            ["schedule", "apply", "timed.yaml"],
            ["schedule", "apply", "timed.yaml"],
            ["schedule", "next", f"timed-{where[0]}"],
            ["schedule", "pause", f"timed-{where[0]}"],
            ["schedule", "list"],
            ["backfill", f"timed-{where[0]}", "--from", "2026-01-01", "--to", "2026-01-02", "--dry-run"],
            ["schedule", "delete", f"timed-{where[0]}"],
            ["status", "--label", "none=x"],
            ["run", f"quick-{where[0]}", "--", "sh", "-c", "echo out; exit 7"],
            ["run", f"quick-{where[0]}"],
            ["run", f"quick-{where[0]}", "--replace", "--", "echo", "again"],
        ):
            done = (
                air(*words, *([] if words[0] == "run" and options else options))
                if words[0] != "run"
                else air(words[0], *options, *words[1:])
            )
            out, err = (
                text.replace(root, "PLACE")
                .replace(on_server, "PLACE")
                .replace("timed-s", "timed")
                .replace("timed-f", "timed")
                .replace("quick-s", "quick")
                .replace("quick-f", "quick")
                .replace(" --state-dir PLACE", "")
                for text in (done.out, done.err)
            )
            seen[where].append((done.code, f"{words[0]}: {plain(out)}", plain(err)))
    waiting = re.compile(r"the manager that is running here takes job .*\n")
    for ours, theirs in zip(seen["server"], seen["files"], strict=True):
        assert ours == (theirs[0], theirs[1], waiting.sub("", theirs[2]))


def test_run_streams_and_passes_the_exit_code(on_server: str, tmp_path: Path) -> None:
    """Stdout has the output and nothing else; it comes while the task runs."""
    command = ["run", "stream", "--", "sh", "-c", "echo first; sleep 1; echo last >&2; exit 9"]
    running = Program(command)
    assert running.stdout is not None
    assert running.stdout.readline() == "first\n"
    assert running.poll() is None
    out, err = running.communicate(timeout=PATIENCE)
    assert (out, running.returncode) == ("last\n", 9)
    assert "stream failed" in err


def test_ctrl_c_pauses_the_job(served: ServedApi, on_server: str) -> None:
    """And says how to go on with it."""
    running = Program(["run", "stopped", "--", "sh", "-c", f"echo begun; {GATE}"])
    assert running.stdout is not None
    assert running.stdout.readline() == "begun\n"
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130, err
    assert "to continue: `air-executor run stopped`" in err
    wait_for(lambda: served.client.status("stopped").phase == "paused", PATIENCE, "the pause")
    served.client.ask("cancel", "stopped")


def test_what_follows_outlives_a_restart_of_the_server(fresh_served: ServedApi, outside: Path) -> None:
    """`logs -f`, `wait` and `run` go on where they were, and no line comes twice."""
    served = fresh_served
    env = os.environ | {"AIR_SERVER": url(served), "AIR_TOKEN": served.tokens["operator"]}

    def start(*words: str) -> Program:
        return Program(words, env=env)

    running = start("run", "long", "--", "sh", "-c", f"echo one; {GATE}; echo two")
    assert running.stdout is not None
    assert running.stdout.readline() == "one\n"
    waiting, following = start("wait", "long"), start("logs", "long", "-f")
    assert following.stdout is not None
    assert following.stdout.readline() == "_1 | one\n"
    # A command that has never met its server gives up at once.
    wait_for(lambda: psutil.Process(waiting.pid).net_connections(), PATIENCE, "the third to be connected")
    time.sleep(1.0)
    served.restart()
    release(served, "long")
    for process, rest in ((running, "two\n"), (following, "_1 | two\n"), (waiting, "long succeeded\n")):
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out) == (0, rest), err
        assert err.count("trying again") <= 2, err


def test_a_viewer_is_told_which_role_it_takes(
    served: ServedApi, air: Air, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one without a token, and one with a wrong one; no token is ever repeated."""
    monkeypatch.setenv("AIR_SERVER", url(served))
    assert air("status").code == 0, "on this machine anyone may read"
    done = air("submit", "x", "--", "true")
    assert done.code == 7
    assert "air-executor token create NAME --role submitter" in done.err
    assert f"air-executor login {url(served)}" in done.err
    monkeypatch.setenv("AIR_TOKEN", served.tokens["viewer"])
    done = air("submit", "x", "--", "true")
    assert (done.code, "takes the role submitter; your token has the role viewer" in done.err) == (7, True)
    for wrong in ("air_wrong-token", "two words", "line\nbreak", "naïve"):
        monkeypatch.setenv("AIR_TOKEN", wrong)
        done = air("status", "--debug")
        assert done.code in (2, 7)
        assert wrong not in done.err + done.out


def test_a_token_is_stored_for_its_owner_alone(
    served: ServedApi, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`login` checks it first; the file is of mode 0600, and of other servers nothing changes."""
    token = served.tokens["submitter"]
    env = {**os.environ, "XDG_CONFIG_HOME": str(outside / "config")}

    def login(*words: str, typed: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "air_executor", "login", *words]
        return subprocess.run(command, input=typed, capture_output=True, text=True, env=env, check=False)

    wrong = login(url(served), typed="air_wrong\n")
    assert (wrong.returncode, "air_wrong" in wrong.stderr) == (7, False)
    assert not (outside / "config").exists()
    done = login(url(served), typed=f"{token}\n")
    assert (done.returncode, done.stdout) == (0, f"{url(served)}: you are submitter, with the role submitter\n")
    assert token not in done.stdout + done.stderr
    path = Path(credentials.path_of(env))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert credentials.find_token(f"{url(served)}/", env) == token
    assert credentials.find_token("http://other.example", env) is None
    assert login(url(served), "--forget", typed="").returncode == 0
    assert credentials.find_token(url(served), env) is None
    path.write_text("garbage")
    assert "remove it, and log in again" in login(url(served), typed=f"{token}\n").stderr


def test_a_server_is_used_only_where_one_is_given(served: ServedApi, air: Air, on_server: str) -> None:
    """`--state-dir` wins over the variable; both flags are refused; what works on files says so."""
    assert air("submit", "--state-dir", "own", "only-here", "--", "true").code == 0
    assert Path("own/jobs/only-here").is_dir()
    assert air("status", "only-here").code == 3
    assert air("status", "--state-dir", "own", "--server", on_server).code == 2
    for command in (["prune"], ["token", "list"]):
        done = air(*command)
        assert (done.code, "works on a state directory" in done.err) == (2, True)


def test_json_has_the_same_names(served: ServedApi, air: Air, on_server: str) -> None:
    """A program need not know where the jobs are."""
    assert json.loads(air("run", "--json", "data", "--", "true").out)["phase"] == "succeeded"
    for words in (["status"], ["status", "data"], ["report", "data"], ["explain", "data"], ["schedule", "list"]):
        here = json.loads(air(*words, "--json", "--state-dir", served.client.layout.root).out)
        there = json.loads(air(*words, "--json").out)
        assert here.keys() == there.keys()
    assert json.loads(air("status", "data", "--json").out) == json.loads(
        air("status", "data", "--json", "--state-dir", served.client.layout.root).out
    )


def test_watching_prints_what_changes(served: ServedApi, on_server: str) -> None:
    """`status --watch` in a pipe ends with its job."""
    assert served.submit("watched", GATE, role="operator").status == 201
    threading.Timer(1.0, release, [served, "watched"]).start()
    begun = time.monotonic()
    watching = Program(["status", "watched", "--watch"])
    out, err = watching.communicate(timeout=PATIENCE)
    assert (watching.returncode, out.count("watched succeeded")) == (0, 1), err
    assert time.monotonic() - begun < PATIENCE
