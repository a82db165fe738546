"""What a local task is started with: environment, arguments, descriptors and signals, none of them changed."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from air_executor.backends.local.inherited_environment import inherit
from air_executor.client import Client
from tests.cli.conftest import Outcome

Call = Callable[..., Outcome]

SHOW = (
    "import json, os, signal, sys; "
    "env = {os.fsencode(n).hex(): os.fsencode(v).hex() for n, v in os.environ.items()}; "
    "ignored = [int(n) for n in signal.valid_signals() if signal.getsignal(n) == signal.SIG_IGN]; "
    "json.dump({'env': env, 'ignored': ignored}, open(sys.argv[1], 'w'))"
)
"""Under `python -X utf8 -I`, so that the interpreter adds nothing of its own."""


def started_with(call: Call, project: Path, environ: Mapping[bytes, bytes]) -> tuple[dict[bytes, bytes], list[int]]:
    """Run a task under a manager with this environment; return the environment and the ignored signals it had."""
    out = project / "seen.json"
    done = call("run", "a", "--", sys.executable, "-I", "-X", "utf8", "-c", SHOW, str(out), env=environ)
    assert done.code == 0, done.err
    seen = json.loads(out.read_text())
    return {bytes.fromhex(n): bytes.fromhex(v) for n, v in seen["env"].items()}, seen["ignored"]


BASE = {b"PATH": os.fsencode(os.environ["PATH"]), b"LC_ALL": b"C.UTF-8"}
SIGNALS_OF_PYTHON = [13, 25]
"""SIGPIPE and SIGXFSZ, which Python itself ignores."""


GIVEN: dict[str, dict[bytes, bytes]] = {
    "none": {},
    "shells": {b"PWD": b"/nowhere", b"OLDPWD": b"relative", b"SHLVL": b"many", b"_": b"/bin/x", b"LINES": b"a\nb"},
    "names": {b"a.b": b"1", b"A-B": b"2", b"BASH_FUNC_greet%%": b"() {  echo hi\n}", b"1x": b""},
    "own": {b"IFS": b"x", b"PPID": b"1", b"OPTIND": b"no", b"RANDOM": b"4", b"SHELLOPTS": b"errexit:nounset"},
    "ours": {b"_air_env": b"/bin/false", b"_air_out": b"mine", b"BASH_VERSION": b"1", b"IFS_": b" \t\n "},
    "bytes": {b"LATIN": b"\xe9", "GRÖẞE".encode(): "ü".encode(), b"LD_LIBRARY_PATH": b"/no\xff where"},
}
"""What a shell could drop, add or rewrite."""


@pytest.mark.parametrize(
    "kinds",
    [
        ["none"],
        list(GIVEN),
        *(pytest.param([kind], marks=pytest.mark.nightly) for kind in GIVEN if kind != "none"),
    ],
    ids="-".join,
)
def test_the_environment_arrives_byte_for_byte(call: Call, project: Path, kinds: list[str]) -> None:
    """A shell is in between, and nothing shows it: no entry is dropped, added or rewritten, no signal is ignored."""
    given = {name: value for kind in kinds for name, value in GIVEN[kind].items()}
    extra = {b"PYTHONPATH": os.fsencode(os.environ["PYTHONPATH"])} if "PYTHONPATH" in os.environ else {}
    seen, ignored = started_with(call, project, {**BASE, **extra, **given})
    kept = {name: value for name, value in seen.items() if not name.startswith(b"AIR_")}
    paths = {name: kept.pop(name) for name in (b"PATH", b"PYTHONPATH")}
    assert kept == {b"LC_ALL": b"C.UTF-8", **given}
    assert BASE[b"PATH"] in paths[b"PATH"]
    assert paths[b"PYTHONPATH"].endswith(b".air-executor/bin")
    assert seen[b"AIR_STATE_DIR"] == os.fsencode(project / ".air-executor")
    assert ignored == SIGNALS_OF_PYTHON


def test_python_s_own_locale_is_not_the_task_s(call: Call, project: Path) -> None:
    """In the C locale Python sets LC_CTYPE for itself; the task's environment is what the manager was started with."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "AIR_"))}
    assert call("run", "a", "--", "env", "-0", env={**environ, "LANG": "C"}).code == 0
    (log,) = project.glob(".air-executor/jobs/a/runs/*/output.log")
    assert b"\0LC_CTYPE=" not in b"\0" + log.read_bytes()
    assert b"\0LANG=C\0" in b"\0" + log.read_bytes()


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0"},
        pytest.param({"LC_ALL": "POSIX"}, marks=pytest.mark.nightly),
        {"LC_ALL": "C.UTF-8"},
    ],
)
def test_arguments_are_bytes_in_every_locale(call: Call, project: Path, locale: dict[str, str]) -> None:
    """What was typed arrives, whatever the locale says about its encoding."""
    program = "import os, sys; os.write(1, os.fsencode(sys.argv[1]) + os.environb[b'WORD'])"
    task = (sys.executable, "-X", "utf8", "-c", program, "日本".encode())
    done = call("run", "a", "--env", "WORD=größe".encode(), "--", *task, env={**os.environ, **locale})
    assert done.code == 0, done.err
    (log,) = project.glob(".air-executor/jobs/a/runs/*/output.log")
    assert log.read_bytes() == "日本größe".encode()


def test_descriptors_do_not_leak(start: Callable[..., subprocess.Popen[str]], project: Path) -> None:
    """A lock that whoever started the manager holds is free when the manager has left, whatever its task does."""
    lock = os.open(project / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    high = fcntl.fcntl(lock, fcntl.F_DUPFD, 200)
    code = "import os; print(*sorted(int(n) for n in os.listdir('/proc/self/fd')), flush=True)"
    process = start("run", "a", "--", sys.executable, "-c", code, pass_fds=[lock, high])
    assert process.wait(timeout=180) == 0
    (log,) = project.glob(".air-executor/jobs/a/runs/*/output.log")
    # The one beyond those that are promised lists them.
    assert set(log.read_text().split()) - {"0", "1", "2", "9"} == {"3"}
    os.close(lock)
    os.close(high)


def test_a_nested_submit_lands_in_the_same_place(call: Call, project: Path, client: Client) -> None:
    """A task in another folder still talks to the state directory that it runs for."""
    (project / "elsewhere").mkdir()
    submit = [sys.executable, "-m", "air_executor", "submit", "child", "--", "true"]
    done = call("run", "a", "--workdir", "elsewhere", "--", *submit)
    assert done.code == 0, done.out + done.err
    assert client.status("child").phase == "queued"


@pytest.mark.parametrize(
    "name",
    ["a:b", "-x li\nne größe", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("a b", "-x", "li\nne"))],
)
def test_the_module_is_found_in_odd_folders(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, name: str
) -> None:
    """The in-task module works wherever the project lies, also where PYTHONPATH cannot hold its path."""
    folder = tmp_path / name
    folder.mkdir()
    # As in a Python that has no Air-Executor of its own: `bin/` comes last on PYTHONPATH.
    code = (
        "import os, sys; sys.path = os.environ['PYTHONPATH'].split(os.pathsep)[-1:] + sys.path; "
        "import importlib.machinery as m; sys.meta_path = [f for f in sys.meta_path if f in vars(m).values()]; "
        "sys.path = [p for p in sys.path if not os.path.isdir(f'{p}/air_executor')]; "
        "import air_executor; air_executor.set_result(air_executor.__file__)"
    )
    environ = {key: value for key, value in os.environ.items() if key != "AIR_STATE_DIR"}
    process = start("--json", "run", "a", "--", sys.executable, "-c", code, cwd=folder, env=environ)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    (task,) = json.loads(out)["tasks"]
    assert os.path.samefile(task["result"], folder / ".air-executor" / "bin" / "air_executor.py")


def test_whose_python(tmp_path: Path) -> None:
    """Our own comes first, unless another environment is active: then the task's `python` is the user's."""
    own = os.path.dirname(sys.executable)
    venv = str(tmp_path / "venv")
    plain = {"PATH": "/usr/bin"}
    assert inherit(plain, sys.prefix, without="AIR_NOTIFY_") == {"PATH": f"{own}:/usr/bin"}
    assert inherit({}, sys.prefix, without="AIR_NOTIFY_")["PATH"].startswith(f"{own}:")
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        active = {"PATH": f"{venv}/bin:/usr/bin", variable: venv}
        assert inherit(active, sys.prefix, without="AIR_NOTIFY_") == {**active, "PATH": f"{venv}/bin:/usr/bin:{own}"}
    ours = {"PATH": f"{sys.prefix}/bin:/usr/bin", "VIRTUAL_ENV": sys.prefix}
    assert inherit(ours, sys.prefix, without="AIR_NOTIFY_")["PATH"].startswith(f"{own}:")
    left = {"PATH": "/usr/bin", "VIRTUAL_ENV": venv}
    assert inherit(left, sys.prefix, without="AIR_NOTIFY_")["PATH"].startswith(f"{own}:")
