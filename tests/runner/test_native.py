"""The native runner as a program: how it is built, and what it makes of nonsense."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from air_executor.runner import native
from tests.conftest import EXAMPLES
from tests.runner.rig import SANITIZE, Rig, built, require_compiler, until

FUZZ = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
WORD = st.binary(max_size=40).filter(lambda data: b"\0" not in data)
NUMBER = st.one_of(st.sampled_from([b"-", b"0", b"5", b"1.5", b".5", b"1e3", b"9" * 400, b"0." + b"1" * 400]), WORD)


def test_a_build_can_be_repeated(tmp_path: Path) -> None:
    """Same sources, same compiler: the same bytes, wherever they are built, and no warning."""
    compiler = require_compiler()
    builds = []
    for name in ("one", "another"):
        (tmp_path / name).mkdir()
        native.compile_to(str(tmp_path / name / "program"), [compiler], (*native.FLAGS, "-Werror"))
        builds.append((tmp_path / name / "program").read_bytes())
    assert builds[0] == builds[1]
    assert native.digest().encode() in builds[0]
    assert str(tmp_path).encode() not in builds[0]


def test_a_build_of_other_sources_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout whose sources have changed since does not run what was built from the earlier ones."""
    require_compiler()
    for name in native.SOURCES:
        shutil.copy(f"{native.FOLDER}/{name}", tmp_path)
    monkeypatch.setattr(native, "FOLDER", str(tmp_path))
    assert native.builds() == {}
    assert native.build_here() is None
    assert list(native.builds()) == [native.this_machine()]
    with open(tmp_path / native.SOURCES[0], "a", encoding="utf-8") as file:
        file.write("\n")
    assert native.builds() == {}


def test_all_sources_are_known() -> None:
    """A header that is not listed would be compiled, too, but its changes would not be built."""
    found = {name for name in os.listdir(native.FOLDER) if name.endswith((".c", ".h"))}
    assert found == set(native.SOURCES)


def test_without_a_compiler_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The build of the package goes on, and says why the script serves."""
    if native.this_machine() is None:
        pytest.skip("no build is for this machine")
    monkeypatch.setattr(native, "builds", dict)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert native.build_here() == "there is no C compiler `cc`"
    monkeypatch.setattr(native, "FOLDER", str(tmp_path))
    for name in native.SOURCES:
        (tmp_path / name).touch()
    (tmp_path / "cc").write_text("#!/bin/sh\necho no libc >&2\nexit 1\n")
    (tmp_path / "cc").chmod(0o755)
    assert "no libc" in str(native.build_here())


@FUZZ
@given(
    timeout=NUMBER,
    grace=NUMBER,
    mode=st.sampled_from([b"local", b"cgroup", b"new-cgroup", b"container", b"Local"]),
    extra=WORD,
)
def test_fuzz_of_its_arguments(tmp_path: Path, timeout: bytes, grace: bytes, mode: bytes, extra: bytes) -> None:
    """It either runs the command or refuses; it never crashes, and what it records is JSON."""
    out = tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    words = [os.fsencode(out), b"/", timeout, grace, mode, b"/bin/true", extra]
    done = subprocess.run([built(native.SANITIZED), *words], capture_output=True, check=False, timeout=60)
    assert done.returncode in {0, 96, 143}, done.stderr
    assert b"Sanitizer" not in done.stderr
    assert b"runtime error" not in done.stderr
    if done.returncode == 0:
        assert json.loads((out / "exit.json").read_text())["exit_code"] == 0


@FUZZ
@given(words=st.tuples(WORD, WORD, WORD, WORD, WORD))
def test_fuzz_of_names(tmp_path: Path, words: tuple[bytes, bytes, bytes, bytes, bytes]) -> None:
    """Whatever command, directory, PATH and first line of a script are: the outcome is one line of JSON."""
    name, workdir, search, image, script = words
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    (tmp_path / "out").mkdir()
    program = tmp_path / "script"
    program.write_bytes(b"#!/no/" + script)
    program.chmod(0o755)
    env = {b"PATH": search, b"_air_bin": search, b"_air_image": image}
    for number, (directory, command) in enumerate(
        [(b"/" + workdir, name), (b"/", os.fsencode(program)), (b"/", b"sh")]
    ):
        out = tmp_path / "out" / str(number)
        out.mkdir()
        run: list[str | bytes] = [built(native.SANITIZED), os.fsencode(out), directory]
        run += [b"5", b"0", b"container", command]
        done = subprocess.run(run, env=env, capture_output=True, check=False, timeout=60)
        assert b"Sanitizer" not in done.stderr
        assert b"runtime error" not in done.stderr
        text = (out / "exit.json").read_text()
        assert (len(text), text[-2:]) == (512, "}\n")
        assert json.loads(text)["exit_code"] == done.returncode


@FUZZ
@given(words=st.lists(WORD, max_size=5), options=st.lists(st.sampled_from([b"--id", b"--env", b"--retries", b"--"])))
def test_fuzz_of_the_helpers(tmp_path: Path, words: list[bytes], options: list[bytes]) -> None:
    """They write a line of JSON, or refuse."""
    helper, queue = tmp_path / "air-queue", tmp_path / "queue"
    if not helper.exists():
        shutil.copy(built(native.SANITIZED), helper)
    queue.unlink(missing_ok=True)
    mixed = [word for pair in zip(options, words, strict=False) for word in pair]
    env = {"AIR_QUEUE": str(queue)}
    done = subprocess.run([helper, *mixed, *words], env=env, capture_output=True, check=False, timeout=60)
    assert b"Sanitizer" not in done.stderr
    assert done.returncode in {0, 2}, done.stderr
    if queue.exists():
        json.loads(queue.read_text())


@pytest.mark.parametrize(
    ("mode", "folder", "status"),
    [("cgroup", "/proc/self", 98), ("cgroup", None, 96), ("new-cgroup", "/proc/self", 0), ("new-cgroup", None, 96)],
)
def test_what_is_no_cgroup(tmp_path: Path, mode: str, folder: str | None, status: int) -> None:
    """A run whose cgroup is gone starts nothing and records nothing, so that the manager tries again.

    One that makes its own, and cannot, has none.
    """
    (tmp_path / "out").mkdir()
    words = [built(native.SANITIZED if SANITIZE else native.FLAGS), str(tmp_path / "out"), "/", "-", "1", mode]
    slot = str(tmp_path / "runner.pid")
    files: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 9, slot, os.O_RDWR | os.O_CREAT, 0o600),
        (os.POSIX_SPAWN_CLOSE, 10) if folder is None else (os.POSIX_SPAWN_OPEN, 10, folder, os.O_RDONLY, 0),
    ]
    env = {**os.environ, "AIR_RUN_ID": "0badcafe-1"}
    pid = os.posix_spawn(words[0], [*words, "touch", f"{tmp_path}/ran"], env, file_actions=files, setsid=True)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status
    assert (tmp_path / "ran").exists() == (status == 0)
    exit_file = tmp_path / "out" / "claim"
    assert status == 0 or not exit_file.exists() or not exit_file.read_text().strip()


def test_what_escaped_its_group_is_killed_with_it(rig: Rig) -> None:
    """A child with a session of its own comes to the runner as an orphan, and ends with a command that was killed."""
    if not rig.is_native:
        pytest.skip("the script cannot find it; the manager does")
    leave = "setsid sh -c \"trap '' TERM; touch escaped; while :; do sleep 0.05; done\" & wait $!"
    runner = rig.start("sh", "-c", f"trap '' TERM; ({leave}) & while :; do sleep 0.05; done", timeout="3", grace="0.3")
    until((rig.work / "escaped").exists)
    assert runner.wait() == -9
    until(lambda: rig.alive() == [])
    assert rig.slot_is_free()
