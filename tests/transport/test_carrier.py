"""A run's whole way through a pod that sees no volume: what it takes, what it leaves, and how it can end."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.runner import native
from air_executor.runner.carrier import folders, growing, uplink
from air_executor.runner.carrier.__main__ import CANNOT, LOST_CLAIM
from air_executor.store.ended_commands import noter_of
from air_executor.store.run_files import MAX_RESULT
from air_executor.store.run_tokens import LIFETIME, RunTokens
from air_executor.web.state_cache import StateCache
from air_executor.web.transport.run_delivery import RunDelivery, SizeLimit
from tests.lanes import NIGHTLY
from tests.transport.rig import PATIENCE, Site, peak, soon

pytestmark = pytest.mark.transport

MEBIBYTE = 1 << 20


def test_a_run_leaves_what_it_would_on_a_volume(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Output, result, queued tasks and workspace of a run are committed, and the next run finds its files.

    Nothing has to be sent twice for it.
    """
    first = site.begin()
    pod = site.pod(first)
    script = (
        "echo out; echo err >&2; cat $AIR_INPUTS; echo '[1]' >$AIR_RESULT; ../bin/air-queue --id b true;"
        " echo made >file; mkdir -p a/b; echo deep >a/b/c"
    )
    assert pod.live(script) == 0
    site.commit(first)
    task = site.world.task("job", "a")
    assert (task.phase, task.result) == ("succeeded", [1])
    assert site.out(first, "output.log") == b"out\nerr\n{}\n"
    second = site.started("job", "b")
    pod = site.pod(second, "second")
    assert pod.live("cat file a/b/c; rm -r a") == 0
    site.commit(second)
    assert site.world.job("job").phase == "succeeded"
    assert site.out(second, "output.log") == b"made\ndeep\n"
    assert sorted(os.listdir(site.workspace(second))) == ["file"]
    assert "cannot deliver" not in caplog.text


def test_a_runner_that_another_version_left_is_not_sent(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without a native runner sends the script, whatever is in `bin/`."""
    address = site.address(site.begin())

    def sent() -> bytes:
        delivery = RunDelivery(StateCache(Client(site.layout.root)), SizeLimit(MEBIBYTE, ""))
        content = b"".join(delivery.inputs(address, str(native.this_machine())))
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            runner = tar.extractfile(f"bin/{native.NAME}")
            assert runner is not None
            return runner.read()

    assert sent().startswith(b"\x7fELF")
    monkeypatch.setattr(native, "builds", dict)
    assert sent().startswith(b"#!/bin/sh")


def test_output_is_seen_while_the_task_runs(site: Site) -> None:
    """What a task prints and queues is with the manager before the task ends; the outcome comes after all else."""
    launch = site.begin()
    pod = site.pod(launch)
    assert pod.fetch() == 0
    delivering = pod.carrier("deliver")
    running = pod.run("echo one; echo '{}' >>$AIR_QUEUE; while [ ! -e go ]; do sleep 0.01; done; echo two")
    soon(lambda: site.out(launch, "output.log") == b"one\n", "the first line")
    soon(lambda: site.out(launch, "queue.jsonl") == b"{}\n", "what is queued")
    assert site.out(launch, "exit.json") == b""
    (pod.workspace / "go").touch()
    assert (running.wait(PATIENCE), delivering.wait(PATIENCE)) == (0, 0)
    assert site.out(launch, "output.log") == b"one\ntwo\n"
    assert site.out(launch, "exit.json").endswith(b"}\n")


def test_a_result_that_is_too_large_is_refused_as_on_a_volume(site: Site) -> None:
    """The manager gets a byte more than it takes, so that it can say so."""
    launch = site.begin()
    assert site.pod(launch).live(f"head -c {MAX_RESULT + 5000} /dev/zero | tr '\\0' 1 >$AIR_RESULT") == 0
    site.commit(launch)
    task = site.world.task("job", "a")
    assert (task.phase, task.reason) == ("failed", "rejected")


def test_times_are_those_of_the_run(site: Site) -> None:
    """Work is what the command took, however late it was delivered."""
    launch = site.begin()
    pod = site.pod(launch)
    assert pod.fetch() == 0
    site.be_away()
    delivering = pod.carrier("deliver")
    assert pod.run("echo said; sleep 0.3").wait(PATIENCE) == 0
    took = (pod.out / "exit.json").stat().st_mtime - (pod.out / "claim").stat().st_mtime
    soon(lambda: "waiting for the manager" in pod.said(), "the carrier to notice")
    time.sleep(0.3)
    site.serve()
    assert delivering.wait(PATIENCE) == 0
    site.commit(launch)
    (attempt,) = site.world.task("job", "a").attempts
    assert attempt.work == pytest.approx(took, abs=0.05)


CHANGES = r"""
set -e
rm removed; rm -r gone; mv old new; mv folder moved
rm file-to-folder; mkdir file-to-folder; echo in >file-to-folder/x
rm -r folder-to-file; echo f >folder-to-file
rm -r folder-to-link; ln -s kept folder-to-link
rm link-to-folder; mkdir link-to-folder; echo y >link-to-folder/y
chmod +x becomes-program; chmod -x was-program
ln -s /etc/passwd leads-out; ln -s .. leads-up; ln -s nothing dangling
ln kept twin
echo longer >changed; touch -d '2001-02-03 04:05:06.123456789' kept-time
mkfifo pipe
mkdir empty
echo secret >unreadable; chmod 0 unreadable; mkdir closed; echo z >closed/z; chmod 0 closed
printf n >"$(printf 'new\nline')"; printf b >"$(printf '\377\376')"; printf s >' leading and trailing '
printf q >"a\"b\\c'd"
printf l >"$(head -c 255 /dev/zero | tr '\0' l)"
printf e >"$(python3 -c 'print("\U0001f600" * 63, end="")')"
"""


def test_all_kinds_of_changes_of_a_workspace(site: Site) -> None:
    """What is on the volume afterwards is what the task left, whatever its names and kinds, and no link is followed."""
    launch = site.begin()
    top = site.workspace(launch)
    for name in ("gone/deep", "folder", "folder-to-file/deep", "folder-to-link", "stays"):
        (top / name).mkdir(parents=True)
    for name in ("removed", "gone/deep/x", "old", "folder/x", "file-to-folder", "folder-to-file/deep/x", "kept"):
        (top / name).write_text(name)
    for name in ("becomes-program", "was-program", "changed", "kept-time", "folder-to-link/x", "stays/x"):
        (top / name).write_text(name)
    (top / "was-program").chmod(0o755)
    (top / "link-to-folder").symlink_to("stays")
    untouched = (top / "stays/x").stat().st_ino
    pod = site.pod(launch)
    assert pod.live(CHANGES) == 0, pod.said()
    site.commit(launch)
    assert site.world.task("job", "a").phase == "succeeded", site.out(launch, "output.log")

    names = {os.fsencode(name) for name in os.listdir(top)}
    assert not names & {b"removed", b"gone", b"old", b"folder", b"pipe"}
    assert (top / "new").read_text() == "old"
    assert (top / "moved/x").read_text() == "folder/x"
    assert (top / "file-to-folder/x").read_text() == "in\n"
    assert (top / "folder-to-file").read_text() == "f\n"
    assert os.readlink(top / "folder-to-link") == "kept"
    assert (top / "link-to-folder/y").read_text() == "y\n"
    assert (top / "stays/x").stat().st_ino == untouched
    programs = [bool((top / name).stat().st_mode & 0o100) for name in ("becomes-program", "was-program")]
    assert programs == [True, False]
    links = [os.readlink(top / name) for name in ("leads-out", "leads-up", "dangling")]
    assert links == ["/etc/passwd", "..", "nothing"]
    assert (top / "twin").read_text() == (top / "kept").read_text() == "kept"
    assert (top / "changed").read_text() == "longer\n"
    assert (top / "kept-time").stat().st_mtime_ns % 10**9 == 123456789
    assert (top / "empty").is_dir()
    assert ((top / "unreadable").read_text(), (top / "closed/z").read_text()) == ("secret\n", "z\n")
    odd = {b"new\nline", b"\xff\xfe", b" leading and trailing ", b"a\"b\\c'd", b"l" * 255, ("\U0001f600" * 63).encode()}
    assert odd <= names
    assert not [name for name in names if name.startswith(b".")], "something that was staged stays"

    # All of it goes to the next pod, and unchanged it does not come back.
    site.world.ask("add", "job", tasks=[{"id": "b", "command": "do"}])
    second = site.started("job", "b")
    before = {name: os.lstat(top / os.fsdecode(name)).st_ino for name in names}
    pod = site.pod(second, "second")
    assert pod.live("readlink leads-out; set -- *; echo $#; chmod 600 kept-time; mv kept kept2; mv kept2 kept") == 0
    assert site.out(second, "output.log") == f"/etc/passwd\n{len(names)}\n".encode()
    after = {name: os.lstat(top / os.fsdecode(name)).st_ino for name in names}
    assert after == before


def test_an_empty_workspace(site: Site) -> None:
    """There is nothing to fetch and nothing to deliver, also where a task has removed its workspace."""
    launch = site.begin()
    pod = site.pod(launch)
    assert pod.live("true") == 0, pod.said()
    site.commit(launch)
    assert site.world.task("job", "a").phase == "succeeded"


def test_large_files_cost_no_memory(site: Site) -> None:
    """Neither the manager nor the carrier holds a file of the workspace in memory, in either direction."""
    size = (200 if NIGHTLY else 64) * MEBIBYTE
    launch = site.begin()
    pod = site.pod(launch)
    with open(site.workspace(launch) / "large", "wb") as file:
        file.truncate(size)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = peak(os.getpid())
    fetching = pod.carrier("fetch")
    most = peak_until_it_ends(fetching)
    assert fetching.returncode == 0, pod.said("fetch")
    delivering = pod.carrier("deliver")
    pod.run("mv large larger; printf 1 >>larger")
    most = max(most, peak_until_it_ends(delivering))
    assert delivering.returncode == 0, pod.said()
    assert (site.workspace(launch) / "larger").stat().st_size == size + 1
    assert peak(os.getpid()) - before < 40 * MEBIBYTE
    assert 0 < most < 48 * MEBIBYTE


def peak_until_it_ends(process: subprocess.Popen[bytes]) -> int:
    """Return the most memory that a process had, in bytes, as far as it was seen."""
    most = 0
    while process.poll() is None:
        with contextlib.suppress(OSError, ValueError):  # it has just ended
            most = max(most, peak(process.pid))
        time.sleep(0.002)
    return most


def test_a_killed_runner_leaves_what_was_printed_and_no_success(site: Site) -> None:
    """What it printed and queued is delivered, no outcome is, and the carrier has done its part."""
    launch = site.begin()
    pod = site.pod(launch)
    assert pod.fetch() == 0
    delivering = pod.carrier("deliver")
    running = pod.run("echo printed; echo made >file; touch ready; exec sleep 600")
    soon((pod.workspace / "ready").exists, "the task to run")
    running.kill()
    running.wait(PATIENCE)
    pod.kill_task()
    assert delivering.wait(PATIENCE) == 0, pod.said()
    assert site.out(launch, "output.log") == b"printed\n"
    assert site.out(launch, "exit.json") == b""
    assert (site.workspace(launch) / "file").read_text() == "made\n"
    site.commit(launch, 137)
    (attempt,) = site.world.task("job", "a").attempts
    assert attempt.reason == "lost"


def test_a_runner_that_is_killed_before_its_claim(site: Site) -> None:
    """The carrier sees nothing of it, asks, and leaves once the platform has seen it end; the slot is not kept."""
    launch = site.begin()
    pod = site.pod(launch)
    assert pod.fetch() == 0
    delivering = pod.carrier("deliver", **{"delivering.ASK_AFTER": 0.1})
    time.sleep(0.3)
    assert delivering.poll() is None, "it must wait for a command whose image is still being pulled"
    assert pod.said() == ""
    noter_of(site.layout)(launch.slot, launch.run, launch.task)
    assert delivering.wait(PATIENCE) == 0, pod.said()
    assert "has ended before it began" in pod.said()
    site.commit(launch, 137)
    assert site.world.task("job", "a").attempts[-1].reason == "lost"


def test_an_end_that_is_noted_of_a_run_that_has_begun(site: Site) -> None:
    """It changes nothing: what the command left is delivered, however late."""
    launch = site.begin()
    pod = site.pod(launch)
    assert pod.fetch() == 0
    assert pod.run("echo said").wait(PATIENCE) == 0
    noter_of(site.layout)(launch.slot, launch.run, launch.task)
    assert pod.carrier("deliver", **{"delivering.ASK_AFTER": 0.0}).wait(PATIENCE) == 0, pod.said()
    assert site.out(launch, "output.log") == b"said\n"
    site.commit(launch)
    assert site.world.task("job", "a").phase == "succeeded"


def test_a_pod_that_is_stopped_before_its_task_began(site: Site) -> None:
    """The carrier leaves at once, and has delivered nothing."""
    launch = site.begin()
    pod = site.pod(launch)
    assert pod.fetch() == 0
    delivering = pod.carrier("deliver")
    soon(lambda: pod.handles(delivering, signal.SIGTERM), "the carrier to be ready")
    delivering.terminate()
    assert delivering.wait(PATIENCE) == 0, pod.said()
    assert site.out(launch, "exit.json") == b""


def test_a_pod_that_is_stopped_while_its_task_runs(site: Site) -> None:
    """The carrier waits for the end of the task, which is told, too, and delivers all of it."""
    launch = site.begin()
    pod = site.pod(launch)
    assert pod.fetch() == 0
    delivering = pod.carrier("deliver")
    running = pod.run("trap 'echo told; exit 3' TERM; echo begun; touch ready; while :; do sleep 0.01; done")
    soon((pod.workspace / "ready").exists, "the task to run")
    soon(lambda: site.out(launch, "output.log") == b"begun\n", "the output")
    delivering.terminate()
    running.terminate()
    assert (running.wait(PATIENCE), delivering.wait(PATIENCE)) == (3, 0), pod.said()
    assert site.out(launch, "output.log") == b"begun\ntold\n"
    assert json.loads(site.out(launch, "exit.json"))["exit_code"] == 3


def test_a_second_pod_of_a_run_is_refused(site: Site) -> None:
    """It fetches nothing and says so with 97; the first one may ask again, until its task has begun."""
    launch = site.begin()
    first, second = site.pod(launch), site.pod(launch, "second")
    (site.workspace(launch) / "folder").mkdir()
    (site.workspace(launch) / "folder/x").touch()
    assert first.fetch() == 0
    assert second.fetch() == LOST_CLAIM
    assert "is not this runner's" in second.said("fetch")
    assert not (second.root / "bin/air-runner").exists()
    assert first.fetch() == 0, first.said("fetch")
    assert first.run("true").wait(PATIENCE) == 0
    assert first.fetch() == LOST_CLAIM
    second.out.mkdir(exist_ok=True)
    (second.out / "claim").touch()
    (second.out / "output.log").write_text("intruder")
    assert second.carrier("deliver").wait(PATIENCE) == LOST_CLAIM
    assert site.out(launch, "output.log") == b""


def test_a_run_that_must_not_begin_any_more(site: Site) -> None:
    """One that the manager has given up fetches nothing, and what an ended one sends of its workspace is not taken."""
    launch = site.begin()
    pod = site.pod(launch)
    site.commit(launch)
    assert pod.fetch() == LOST_CLAIM

    launch = site.begin("other")
    pod = site.pod(launch, "other")
    assert pod.fetch() == 0
    site.commit(launch)
    delivering = pod.carrier("deliver")
    pod.run("echo late >file").wait(PATIENCE)
    assert delivering.wait(PATIENCE) == LOST_CLAIM
    assert "has ended" in pod.said()
    assert os.listdir(site.workspace(launch)) == []


def test_a_manager_that_stays_away(site: Site) -> None:
    """The carrier gives up after its patience, says why, and has not said that it was done."""
    launch = site.begin()
    pod = site.pod(launch, env={"AIR_CARRIER_PATIENCE": "0.5"})
    assert pod.fetch() == 0
    site.be_away()
    delivering = pod.carrier("deliver")
    assert pod.run("echo said").wait(PATIENCE) == 0
    assert delivering.wait(PATIENCE) == CANNOT
    assert (
        pod.said().splitlines()[-1].startswith(f"air-carrier: OSError: the manager at 127.0.0.1:{site.port} does not")
    )
    assert site.out(launch, "exit.json") == b""


def test_a_volume_that_was_restored_gets_what_it_has_lost(site: Site) -> None:
    """Output goes on where the manager's file ends, also where it ends earlier than it did."""
    launch = site.begin()
    pod = site.pod(launch)
    assert pod.fetch() == 0
    delivering = pod.carrier("deliver")
    running = pod.run("echo one; while [ ! -e go ]; do sleep 0.01; done; echo two")
    soon(lambda: site.out(launch, "output.log") == b"one\n", "the first line")
    os.truncate(f"{launch.out_dir}/output.log", 1)
    (pod.workspace / "go").touch()
    assert (running.wait(PATIENCE), delivering.wait(PATIENCE)) == (0, 0)
    assert site.out(launch, "output.log") == b"one\ntwo\n"


def test_a_silent_run_keeps_a_valid_token(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task may print nothing for longer than a token lives: the carrier asks for the next one in time."""
    launch = site.begin()
    pod = site.pod(launch)
    assert pod.fetch() == 0
    old = RunTokens(site.layout).make(site.address(launch), time.time() - 0.6 * LIFETIME)
    env = {"AIR_CARRIER_URL": f"http://127.0.0.1:{site.port}", "AIR_CARRIER_TOKEN": old, "AIR_CARRIER_HOLDER": "pod"}
    link = uplink.Uplink(env)
    log = growing.Growing(link, str(pod.out), folders.LOG)
    assert not log.send()
    assert link.token == old
    monkeypatch.setattr(growing, "CHECK_IN", -1.0)
    assert not log.send()
    found = RunTokens(site.layout).read(link.token, time.time() + LIFETIME / 2)
    assert found is not None
    assert found[0] == site.address(launch)
    link.close()
