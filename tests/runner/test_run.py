"""One command from claim to outcome, when nobody interferes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from air_executor.store.layout import Layout
from air_executor.store.run_dirs import RunDirs
from tests.lanes import NIGHTLY, missing
from tests.runner.rig import SANITIZE, Rig, until

KEYS = "exit_code signal started timed_out stopped user system memory_peak oom_kills message".split()


def test_a_run_leaves_output_and_outcome(rig: Rig) -> None:
    """Output, directory and stdin are the run's own, and the outcome has its keys in their order."""
    assert rig.script("pwd; cat; echo to-stderr >&2; exit 3") == 3
    assert rig.log.decode() == f"{rig.work}\nto-stderr\n"
    assert list(rig.exit) == KEYS
    peak = rig.exit["memory_peak"]
    assert (100_000 < peak < 1 << 30) if rig.is_native else peak is None
    assert {**rig.exit, "started": None, "user": "", "system": "", "memory_peak": None} == {
        "exit_code": 3,
        "signal": None,
        "started": None,
        "timed_out": False,
        "stopped": False,
        "user": "",
        "system": "",
        "memory_peak": None,
        "oom_kills": None,
        "message": None,
    }
    assert sorted(os.listdir(rig.out)) == ["claim", *([] if rig.is_native else ["exit.json"]), "output.log"]
    assert (rig.stdout.read_text(), rig.stderr.read_text()) == ("", "")


def test_the_start_stays_known(rig: Rig) -> None:
    """It is the time of the claim, which the outcome names if it is written there."""
    runner = rig.start("sh", "-c", "touch ready; while [ ! -e go ]; do sleep 0.02; done")
    until((rig.work / "ready").exists)
    began = (rig.out / "claim").stat().st_mtime
    time.sleep(0.1)
    (rig.work / "go").touch()
    assert runner.wait() == 0
    ended = rig.outcome.stat().st_mtime
    found = (rig.out / "claim").stat().st_mtime if rig.exit["started"] is None else rig.exit["started"]
    assert rig.is_native == (rig.exit["started"] is not None)
    assert found == pytest.approx(began, abs=0.02)
    assert ended > found + 0.05


def test_files_made_beforehand_are_used(rig: Rig) -> None:
    """In a container: the manager creates the files empty, so that no reader is told that they are not there."""
    for name in ("output.log", "queue.jsonl", "result.json", "exit.json"):
        (rig.out / name).touch()
    inodes = {name: (rig.out / name).stat().st_ino for name in ("output.log", "exit.json")}
    assert rig.script("echo hello", mode="container") == 0
    assert rig.log == b"hello\n"
    assert rig.exit["exit_code"] == 0
    assert (rig.exit["started"], (rig.out / "claim").stat().st_size) == (None, 0)
    assert {name: (rig.out / name).stat().st_ino for name in inodes} == inodes


def test_output_is_appended(rig: Rig) -> None:
    """What is in the log stays, whoever wrote it; what others write in between, too."""
    (rig.out / "output.log").write_text("before\n")
    assert rig.script(f"echo one; echo other >>'{rig.out}/output.log'; echo two") == 0
    assert rig.log == b"before\none\nother\ntwo\n"


def test_arguments_arrive_as_they_are(rig: Rig) -> None:
    """No argument is split, expanded or taken for an option."""
    arguments = ["a b", "", "*", "$HOME", "-n", "new\nline", 'quo"te', "'", "\\", "é"]
    code = "import sys, json; print(json.dumps(sys.argv[1:]))"
    assert rig.run("python3", "-c", code, *arguments) == 0
    assert json.loads(rig.log) == arguments


@pytest.mark.parametrize(
    "given",
    [
        {name: f"mine {name}" for name in ("out", "code", "mode", "status", "timeout", "signal", "pid", "i", "LC_ALL")},
        {"PWD": "/nowhere", "OLDPWD": "relative", "SHLVL": "7"},
        {"a.b": "1", "A-B": "2", "BASH_FUNC_greet%%": "() {  echo hi\n}", "1": "", "é": "ü", "PWD": "x"},
        {"IFS": "x", "PPID": "1", "OPTIND": "no", "RANDOM": "4", "SHELLOPTS": "errexit", "BASH_VERSION": "1"},
        {"_air_out": "mine", "_air_env": "/bin/false", "LATIN": "\udce9", "LD_LIBRARY_PATH": "/no"},
    ],
    ids=["plain", "shells", "names", "own", "ours"],
)
def test_the_environment_is_not_touched(rig: Rig, given: dict[str, str]) -> None:
    """Every entry reaches the command byte for byte, whatever a shell would make of it, and none is added."""
    assert rig.run("env", "-0", env=given, timeout="60") == 0
    seen = dict(line.split(b"=", 1) for line in rig.log.split(b"\0") if b"=" in line)
    expected = {**given, "PATH": os.environ["PATH"], "AIR_RUN_ID": rig.marker}
    if rig.shell[:1] == ["bash"]:  # which cannot be kept from having an opinion on these two
        for own in ("_", "SHLVL"):
            seen.pop(own.encode(), None)
            expected.pop(own, None)
    assert seen == {os.fsencode(name): os.fsencode(value) for name, value in expected.items()}


def test_what_a_container_adds_to_the_environment(rig: Rig) -> None:
    """The in-task API and the helpers come last, after what image or task say; the runner's own variables go."""
    env = {"PYTHONPATH": "/of/the/image", "_air_bin": "/air/bin", "_air_image": "x"}
    helpers = os.path.dirname(rig.program) if rig.is_native else "/air/bin"
    show = "import os; print(os.environ['PATH'], os.environ.get('PYTHONPATH'), [n for n in os.environ if '_air' in n])"
    for number, python_path in enumerate(["/of/the/image:/air/bin", "/air/bin"]):
        out = _another(rig, str(number))
        assert rig.run(sys.executable, "-c", show, env=env, mode="container", out=str(out)) == 0
        assert (out / "output.log").read_text() == f"{os.environ['PATH']}:{helpers} {python_path} []\n"
        env.pop("PYTHONPATH", None)


def test_a_shell_that_the_image_lacks(rig: Rig) -> None:
    """A command that is text needs one, which is said with the image's name."""
    if not rig.is_native:
        pytest.skip("it is run by the shell")
    env = {"PATH": "/nonexistent", "_air_bin": "/air/bin", "_air_image": "gcr.io/distroless/static:latest"}
    assert rig.run("sh", "-c", "true", env=env, mode="container") == 127
    assert rig.exit["message"] == (
        "no shell `sh` is in the PATH of this image, and a command that is text needs one; write it as a list: "
        "gcr.io/distroless/static:latest"
    )


def test_signals_are_at_their_defaults(rig: Rig) -> None:
    """Nothing that the runner or its shell ignores or handles is passed on: INT ends what a task starts."""
    code = (
        "import signal; own = {signal.SIGPIPE, signal.SIGXFSZ}\n"
        "print([int(n) for n in signal.valid_signals() - own if signal.getsignal(n) == signal.SIG_IGN])\n"
        "print(signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    )
    assert rig.run("python3", "-c", code, timeout="60") == 0
    assert rig.log == b"[]\nset()\n"
    assert rig.run("python3", "-c", code, out=str(_another(rig, "exact")), env={"a.b": "1"}) == 0
    assert (rig.folder / "exact" / "output.log").read_bytes() == b"[]\nset()\n"


def _another(rig: Rig, name: str) -> Path:
    folder = rig.folder / name
    folder.mkdir()
    return folder


def test_the_command_inherits_only_the_lock(rig: Rig) -> None:
    """Beside stdin, stdout and stderr the command has the slot's descriptor, and none of the runner's."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("there is no /proc here")
    code = (
        "import os, json\n"
        "links = {n: os.path.realpath(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')}\n"
        "print(json.dumps({n: link for n, link in links.items() if os.path.exists(f'/proc/self/fd/{n}')}))"
    )
    known = 20 if rig.is_native else 10  # a script can close those of one digit
    inherited = [fd for fd in range(3, known) if fd != 9]
    leaky = f"import os, sys; [os.dup2(2, fd) for fd in {inherited}]; os.execvp(sys.argv[1], sys.argv[1:])"
    words = [*rig.shell, rig.program, str(rig.out), str(rig.work), "60", "100", "local", "python3", "-c", code]
    assert rig.start_program(sys.executable, "-c", leaky, *words).wait() == 0
    log = str(rig.out / "output.log")
    links = {int(fd): link for fd, link in json.loads(rig.log).items() if rig.is_native or int(fd) < known}
    assert links == {0: "/dev/null", 1: log, 2: log, 9: str(rig.slot)}


def test_no_program_is_needed(rig: Rig) -> None:
    """What the runner needs is not looked for in the task's PATH: it works where that leads nowhere."""
    true = shutil.which("true")
    assert true is not None
    assert rig.run(true, env={"PATH": "/nonexistent"}) == 0
    assert rig.exit["exit_code"] == 0
    assert (rig.log, rig.stderr.read_text()) == (b"", "")


def test_builtins_are_not_taken_for_the_command(rig: Rig) -> None:
    """A list is executed as it is: what the shell would do itself is looked up like any other program."""
    assert rig.run("_air_finish") == 127
    program = rig.work / "ulimit"
    program.write_text("#!/bin/sh\nprintf mine\n")
    program.chmod(0o755)
    other = rig.folder / "other"
    other.mkdir()
    assert rig.run("ulimit", out=str(other), env={"PATH": f"{os.environ['PATH']}:{rig.work}"}) == 0
    assert (other / "output.log").read_bytes() == b"mine"


@pytest.mark.parametrize("code", [0, 1, 2, 96, 97, 125, 126, 127, 128, 193, 255])
def test_exit_codes_pass_through(rig: Rig, code: int) -> None:
    """What the command chose is reported as it is, and not explained or taken for a signal."""
    assert rig.script(f"exit {code}") == code
    assert (rig.exit["exit_code"], rig.exit["signal"], rig.exit["message"]) == (code, None, None)


def test_an_orphan_s_end_is_not_the_command_s(rig: Rig) -> None:
    """What the command has left behind may end before it, and be the runner's to reap."""
    assert rig.script("(sh -c 'exit 3' &); sleep 0.2; echo on; exit 7") == 7
    assert (rig.exit["exit_code"], rig.log) == (7, b"on\n")


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV", "INT", "PIPE", "ABRT"])
def test_signal_deaths_are_told(rig: Rig, name: str) -> None:
    """A command that dies by a signal is reported with 128 + n and n, and was not stopped by us."""
    number = int(signal.Signals[f"SIG{name}"])
    assert rig.run("sh", "-c", f"kill -{name} $$") == 128 + number
    assert (rig.exit["exit_code"], rig.exit["signal"], rig.exit["stopped"]) == (128 + number, number, False)
    assert rig.log == b""


def test_cpu_time_is_the_command_s(rig: Rig) -> None:
    """User time covers the command and is written as the shell tells it."""
    code = "import time\nwhile time.process_time() < 0.3: pass"
    assert rig.run("python3", "-c", code) == 0
    minutes, seconds = rig.exit["user"].removesuffix("s").split("m")
    other, system = rig.exit["system"].removesuffix("s").split("m")
    assert 0.25 < int(minutes) * 60 + float(seconds) + int(other) * 60 + float(system) < 10


def test_binary_output_is_kept(rig: Rig) -> None:
    """Every byte is kept, in both modes, and in a container stdout gets the same."""
    data = bytes(range(256)) * 400
    (rig.work / "data").write_bytes(data)
    assert rig.script("cat data; cat data >&2", mode="container") == 0
    assert rig.log == rig.stdout.read_bytes() == data * 2


def test_large_output(rig: Rig) -> None:
    """It neither blocks nor is cut: a gigabyte at night, else more than any buffer on its way."""
    size = 1 << 30 if NIGHTLY else 1 << 26
    assert rig.script(f"head -c {size} /dev/zero; printf end") == 0
    log = rig.out / "output.log"
    assert log.stat().st_size == size + 3
    log.unlink()


def test_much_output_in_a_container(rig: Rig) -> None:
    """The copy on stdout is complete when the runner has ended."""
    half = 60_000_000 if NIGHTLY else 6_000_000
    assert rig.script(f"head -c {half} /dev/urandom; sleep 0.1; head -c {half} /dev/urandom", mode="container") == 0
    with open(rig.stdout, "rb") as copy, open(rig.out / "output.log", "rb") as log:
        assert hashlib.file_digest(copy, "sha1").digest() == hashlib.file_digest(log, "sha1").digest()
    assert rig.stdout.stat().st_size == 2 * half
    rig.stdout.unlink()
    (rig.out / "output.log").unlink()


def test_container_output_comes_while_it_runs(rig: Rig) -> None:
    """Who follows the container's log sees output before the command has ended."""
    runner = rig.start("sh", "-c", "echo first; while [ ! -e go ]; do sleep 0.05; done; echo last", mode="container")
    until(lambda: rig.stdout.read_bytes() == b"first\n")
    (rig.work / "go").touch()
    assert runner.wait() == 0
    assert rig.stdout.read_bytes() == b"first\nlast\n"
    assert rig.alive() == []


def test_who_copies_a_quiet_task_s_output_looks_less_often(rig: Rig) -> None:
    """Looking costs processes, so the pause grows while nothing comes, and is short again after something did."""
    if rig.is_native or rig.shell[:1] == ["busybox"]:
        pytest.skip("it needs no such program, so none can be put in its place")
    pauses, fake = rig.folder / "pauses", rig.folder / "fake"
    fake.write_text(f'#!/bin/sh\necho "$1" >>{pauses}\nexec python3 -c "import time; time.sleep(0.02)"\n')
    fake.chmod(0o755)
    pauses.touch()
    code = (
        "import os, time\nwhile not os.path.exists('go'): time.sleep(0.1)\nprint('more', flush=True)\ntime.sleep(600)"
    )
    runner = rig.start("python3", "-c", code, mode="container", replaced={"/bin/sleep": fake})
    until(lambda: pauses.read_text().endswith("4\n4\n"))
    assert pauses.read_text().split()[:4] == ["1", "2", "4", "4"]
    (rig.work / "go").touch()
    until(lambda: pauses.read_text().rstrip("4\n").endswith("4\n1\n2"))
    assert rig.stdout.read_bytes() == b"more\n"
    runner.send(signal.SIGTERM)
    assert runner.wait() == 143


def test_the_native_runner_looks_less_often_too(rig: Rig) -> None:
    """Also while nothing has come yet: a silent task's runner sleeps."""
    if not rig.is_native:
        pytest.skip("the script is looked at above")
    runner = rig.start("sleep", "1", mode="container")
    reads = 0

    def has_ended() -> bool:
        nonlocal reads
        with contextlib.suppress(OSError, IndexError):
            reads = int(Path(f"/proc/{runner.pid}/io").read_text().split("syscr: ")[1].split()[0])
        return runner.status() is not None

    until(has_ended)
    assert runner.wait() == 0
    assert 0 < reads < 200


@pytest.mark.parametrize("detach", ["", "setsid "])
@pytest.mark.parametrize("mode", ["local", "container"])
def test_grandchildren_do_not_hold_the_runner(rig: Rig, mode: str, detach: str) -> None:
    """The run ends with its command, whoever keeps the output open."""
    if detach and not shutil.which("setsid"):
        pytest.skip("there is no setsid here")
    assert rig.script(f"{detach}sleep 60 & echo tail", mode=mode) == 0
    assert rig.log == b"tail\n"
    if mode == "container":
        assert rig.stdout.read_bytes() == b"tail\n"
    left = [] if rig.is_native and mode == "local" else ["sleep"]  # that runner ends it itself
    until(lambda: [process.name() for process in rig.alive()] == left)


# --- what cannot be run -----------------------------------------------------------------------------------------------

HOSTILE = [
    'no"such',
    "back\\slash",
    "new\nline",
    "\x1b[31mred",
    "tab\there",
    "$(reboot)",
    "%s%n",
    "*",
    "é" * 30,
    "x" * 999,
]


@pytest.mark.parametrize("name", ["no-such-command", *HOSTILE, "-n", "", "./no/such", "/no/such"])
def test_command_not_found(rig: Rig, name: str) -> None:
    """127, the name in a message that stays JSON whatever the name holds, and words in the log."""
    if len(name) > 255:
        name = name[:255]
    assert rig.run(name, "argument") == 127
    assert rig.exit["exit_code"] == 127
    shown = rig.exit["message"]
    assert shown.startswith("command not found: ")
    assert shown.isprintable()
    if name.isascii() and name.replace("-", "").replace("/", "").replace(".", "").isalnum():
        assert shown == f"command not found: {name[:200]}"
    assert re.search(rb"air-runner|found|No such file", rig.log)


@pytest.mark.parametrize("where", ["path", "relative", "PATH", "folder"])
def test_not_executable(rig: Rig, where: str) -> None:
    """126 for a file without the permission and for a folder."""
    (rig.work / "data").write_text("x")
    (rig.work / "folder").mkdir()
    name = {"path": str(rig.work / "data"), "relative": "./data", "PATH": "data", "folder": "./folder"}[where]
    env = {"PATH": f"{os.environ['PATH']}:{rig.work}"}
    assert rig.run(name, env=env) == 126
    assert rig.exit["exit_code"] == 126
    assert rig.exit["message"] == f"not executable: {name}"
    assert rig.log != b""


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/no/such place", "the working directory does not exist"),
        ("/dev/null", "cannot enter the working directory"),
    ],
)
def test_a_work_directory_that_cannot_be_entered(rig: Rig, path: str, why: str) -> None:
    """126, the reason and the path in log and message, and the command is not run."""
    assert rig.run("touch", str(rig.folder / "ran"), workdir=path) == 126
    assert rig.exit["exit_code"] == 126
    assert rig.exit["message"] == f"{why}: {path}"
    assert path.encode() in rig.log
    assert not (rig.folder / "ran").exists()


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ("#!/no/such", "interpreter not found: /no/such, named in the first line of ./x.sh"),
        ("#! /no/such -e", "interpreter not found: /no/such, named in the first line of ./x.sh"),
        (
            "#!/bin/sh\r",
            "interpreter not found: /bin/sh, named in the first line of ./x.sh (the line ends with CR LF)",
        ),
    ],
)
def test_an_interpreter_that_does_not_exist(rig: Rig, first: str, told: str) -> None:
    """The script is there: what is missing is what its first line names, and that is said."""
    script = rig.work / "x.sh"
    script.write_text(f"{first}\necho ran\n", newline="")
    script.chmod(0o755)
    assert rig.run("./x.sh") == 127
    assert (rig.exit["exit_code"], rig.exit["message"]) == (127, told)


def _program(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_an_interpreter_that_is_a_script_itself(rig: Rig) -> None:
    """What is missing is its own interpreter, and the message names the file whose first line says so."""
    inner = _program(rig.work / "inner", "#!/no/such\n")
    outer = _program(rig.work / "outer", f"#!{inner} -e\n")
    _program(rig.work / "x.sh", f"#!{outer}\necho ran\n")
    assert rig.run("./x.sh") == 127
    assert rig.exit["message"] == f"interpreter not found: /no/such, named in the first line of {inner}"


def test_an_interpreter_that_cannot_be_executed(rig: Rig) -> None:
    """The script may be executed: what may not be is what its first line names."""
    data = _program(rig.work / "data", "x", 0o644)
    _program(rig.work / "x.sh", f"#!{data}\necho ran\n")
    assert rig.run("./x.sh") == 126
    assert rig.exit["message"] == f"interpreter not executable: {data}, named in the first line of ./x.sh"


def test_a_program_whose_loader_does_not_exist(rig: Rig) -> None:
    """As one that was built for another C library."""
    program = Path("/bin/true").resolve().read_bytes()
    found = re.search(rb"/lib[\w/.-]*/ld-[\w.-]+", program[:4096])
    if found is None:
        pytest.skip("programs here have no loader")
    loader = found[0].replace(b"/lib", b"/bil")
    (rig.work / "x").write_bytes(program.replace(found[0], loader, 1))
    (rig.work / "x").chmod(0o755)
    assert rig.run("./x") == 127
    assert rig.exit["message"] == f"program loader not found: {loader.decode()}, the dynamic linker of ./x"


def test_a_script_that_ends_with_127_was_started(rig: Rig) -> None:
    """Its interpreter is there, so nothing is said of it."""
    _program(rig.work / "x.sh", "#!/bin/sh\nexit 127\n")
    assert rig.run("./x.sh") == 127
    assert rig.exit["message"] is None


@pytest.mark.parametrize("timeout", ["-", "60"])
@pytest.mark.parametrize("mode", ["local", "container"])
def test_no_more_processes(open_rig: Rig, mode: str, timeout: str) -> None:
    """A runner that cannot start another process says so in the outcome: it did not vanish."""
    rig = open_rig
    if os.geteuid() != 0:
        pytest.skip("only root can become a user without other processes")
    if rig.shell[:1] == ["bash"] and (mode, timeout) != ("local", "-"):
        pytest.skip("bash tries for 15 seconds each time")
    nobody = 40_000 + os.getpid() % 20_000  # another one in each process that runs tests
    become = (
        f"import os, resource, sys; os.setgid({nobody}); os.setuid({nobody}); "
        "resource.setrlimit(resource.RLIMIT_NPROC, (1, 1)); os.execvp(sys.argv[1], sys.argv[1:])"
    )
    for path in (rig.out, rig.work, rig.folder):
        path.chmod(0o777)
    program = rig.folder / "air-runner"
    shutil.copy(rig.program, program)
    words = [str(program), str(rig.out), str(rig.work), timeout, "1", mode, "true"]
    env = {"ASAN_OPTIONS": "detect_leaks=0"} if SANITIZE else {}  # for which it would need a process
    runner = rig.start_program("python3", "-c", become, *rig.shell, *words, env=env, locked=mode == "local")
    assert runner.wait() == 126
    assert rig.exit["exit_code"] == 126
    assert rig.exit["message"] == "cannot start another process: the limit of processes or memory is reached"


def test_a_full_volume_does_not_lose_the_outcome(rig: Rig) -> None:
    """The place for it is taken at the start, so a task that fills the volume has still ended as it has."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small volume")
    small = rig.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(small)], check=True)
    try:
        (small / "out").mkdir()
        assert rig.script("head -c 8000000 /dev/zero; exit 0", out=str(small / "out")) == 0
        rig.out = small / "out"
        assert rig.exit["exit_code"] == 0
        assert rig.exit["user"] is not None
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_volume_that_is_full_before(rig: Rig) -> None:
    """Nothing runs whose outcome could not be written."""
    os.symlink("/dev/full", rig.out / "exit.json")
    assert rig.run("touch", str(rig.folder / "ran"), mode="container") == 96
    assert "exit.json" in rig.stderr.read_text()
    assert not (rig.folder / "ran").exists()


# --- the claim --------------------------------------------------------------------------------------------------------


def test_a_lost_claim_touches_nothing(rig: Rig) -> None:
    """97 and silence: whoever lost knows nothing about the run."""
    (rig.out / "claim").touch()
    (rig.out / "output.log").write_text("theirs\n")
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in rig.out.iterdir()}
    assert rig.run("touch", str(rig.folder / "ran"), mode="local") == 97
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in rig.out.iterdir()} == before
    assert rig.slot.read_bytes() == rig.stdout.read_bytes() == rig.stderr.read_bytes() == b""
    assert not (rig.folder / "ran").exists()


def test_of_twenty_runners_one_runs(rig: Rig) -> None:
    """However many are started at once, the command runs once."""
    command = ("sh", "-c", f"echo ran >>{rig.folder}/ran")
    statuses = [runner.wait() for runner in [rig.start(*command, mode="container") for _ in range(20)]]
    assert sorted(statuses) == [0, *[97] * 19]
    assert (rig.folder / "ran").read_text() == "ran\n"
    assert rig.stderr.read_text() == ""


def test_no_out_directory(rig: Rig) -> None:
    """96 says that it could not even claim, which is not the same as having lost."""
    assert rig.run("true", out=str(rig.folder / "nowhere")) == 96
    assert "cannot create" in rig.stderr.read_text()
    assert rig.run("true", out="relative") == 96
    assert "usage" in rig.stderr.read_text()
    assert rig.run() == 96


def test_without_a_lock_nothing_runs_locally(rig: Rig) -> None:
    """A local runner that holds no slot must not start anything."""
    assert rig.run("touch", str(rig.folder / "ran"), locked=False) == 96
    assert "fd 9" in rig.stderr.read_text()
    assert not (rig.folder / "ran").exists()
    assert not (rig.out / "exit.json").exists()


def test_a_log_that_cannot_be_written(rig: Rig) -> None:
    """Nothing runs whose output would be lost."""
    (rig.out / "output.log").mkdir()
    assert rig.run("touch", str(rig.folder / "ran")) == 96
    assert "output.log" in rig.stderr.read_text()
    assert not (rig.folder / "ran").exists()


# --- the slot ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", ["-", "60"])
def test_the_slot_is_taken_exactly_as_long(rig: Rig, timeout: str) -> None:
    """The lock is held while the command lives and free the moment the runner has gone, watchdog or not."""
    runner = rig.start("sh", "-c", "touch ready; while [ ! -e go ]; do sleep 0.02; done", timeout=timeout)
    until((rig.work / "ready").exists)
    assert rig.slot.read_text() == f"pid {runner.pid}\n"
    assert not rig.slot_is_free()
    (rig.work / "go").touch()
    assert runner.wait() == 0
    assert rig.slot_is_free()
    assert rig.alive() == []


def test_a_child_of_the_command_keeps_the_slot(rig: Rig) -> None:
    """What the command leaves behind still holds the slot, so that no second runner gets in beside it."""
    rig.start("sh", "-c", "(trap '' TERM; touch ready; sleep 60) & until [ -e ready ]; do sleep 0.02; done")
    until(lambda: rig.has_outcome)
    assert not rig.slot_is_free()
    for process in rig.alive(runners=False):
        process.kill()
    until(rig.slot_is_free)


# --- tasks that damage their own run ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "mkdir $0",
        "mkfifo $0",
        "ln -s /dev/full $0",
        "ln -s nowhere $0",
        "mkfifo real; ln -s real $0",
        "rm -rf $PWD",
    ],
)
def test_no_place_for_the_outcome(rig: Rig, damage: str) -> None:
    """The runner neither hangs nor claims success where the outcome cannot be written."""
    name = rig.local_outcome
    assert rig.run("sh", "-c", f"cd {rig.out} && rm -f $0 && {damage}", name) == 96
    assert not (rig.out / name).is_file()


def test_a_deleted_outcome_is_written_all_the_same(rig: Rig) -> None:
    """A task that clears its folder has still ended as it has."""
    assert rig.script(f"rm -f {rig.out}/*; exit 4") == 4
    assert rig.exit["exit_code"] == 4


@pytest.mark.parametrize("damage", ["head -c 5000 /dev/zero >$0", "echo x >$0", ": >$0"])
def test_a_task_that_writes_its_own_outcome(rig: Rig, damage: str) -> None:
    """The first line is the runner's, whatever a task has written there."""
    assert rig.run("sh", "-c", f"cd {rig.out}; {damage}; exit 5", rig.local_outcome) == 5
    first, newline, _ = (rig.out / rig.local_outcome).read_bytes().partition(b"\n")
    assert (json.loads(first)["exit_code"], newline) == (5, b"\n")


def test_an_outcome_in_the_place_of_the_other_runners(rig: Rig) -> None:
    """Readers look for both, and a task that has written the other one has not decided how it ended."""
    forged = '{"exit_code": 0}'
    assert rig.script(f"cd {rig.out}; for name in claim exit.json; do echo '{forged}' >$name; done; exit 5") == 5
    folder = Path(Layout(rig.folder / "state").run("j", 1, "a"))
    folder.parent.mkdir(parents=True)
    rig.out.rename(folder)
    left = RunDirs(Layout(rig.folder / "state")).exit("j", 1, "a")
    assert left is not None
    assert left.exit_code == 5


@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_local_volume_that_is_full_before(rig: Rig, place: str) -> None:
    """Nothing runs whose outcome could not be written: neither without its file nor without room in it."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small volume")
    small = rig.folder / "small"
    small.mkdir()
    room = "nr_inodes=1" if place == "before" else "size=4k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", room, "none", str(small)], check=True)
    try:
        if place == "behind":
            (small / "full").write_bytes(b"x" * 4096)
        assert rig.run("touch", str(rig.folder / "ran"), out=str(small)) == 96
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert not (rig.folder / "ran").exists()


def test_the_script_is_shipped_with_the_package() -> None:
    """It is package data, with its line that names the interpreter."""
    from tests.runner.rig import SCRIPT  # noqa: PLC0415 - the only use

    assert Path(SCRIPT).read_text().startswith("#!/bin/sh\n")


def test_only_the_runner_writes_the_outcome(tmp_path: Path) -> None:
    """No part of it in the background that bash ends early, which would say that no process can be started."""
    if shutil.which("bash") is None:
        missing("bash is not installed")
    writers = tmp_path / "writers"
    functions = tmp_path / "functions"
    functions.write_text(f'printf() {{ echo "$BASHPID $$" >>"{writers}"; builtin printf "$@"; }}\n')
    for number in range(40):
        folder = tmp_path / str(number)
        folder.mkdir()
        rig = Rig(folder, ["bash"])
        assert rig.run("true", mode="container", env={"BASH_ENV": str(functions)}) == 0
        rig.clean_up()
    found = [line.split() for line in writers.read_text().splitlines()]
    assert len(found) >= 40
    assert [pids for pids in found if len(set(pids)) > 1] == []
