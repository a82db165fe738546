"""Runs without a volume whose workspace is in a real S3 server: real carriers, real runners, a real manager."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.runner.carrier import __main__ as carrier
from air_executor.store.object_store import ObjectStore
from tests.transport.rig import PATIENCE, Site, soon
from tests.transport.test_carrier import CHANGES
from tests.transport.test_hostile_runs import Caller
from tests.workspace_store.s3 import S3Server

pytestmark = pytest.mark.transport

MEBIBYTE = 1 << 20


def tree(top: Path) -> dict[bytes, object]:
    """Return what is in a folder: kinds, contents, and whether it can be executed."""
    found: dict[bytes, object] = {}
    for folder, folders, names in os.walk(os.fsencode(top)):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            about = os.lstat(path)
            inner = os.path.relpath(path, os.fsencode(top))
            if os.path.islink(path):
                found[inner] = os.readlink(path)
            elif os.path.isdir(path):
                found[inner] = "folder"
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    digest = hashlib.sha256(file.read()).hexdigest()
                found[inner] = (digest, bool(about.st_mode & 0o100))
    return found


def keys(objects: ObjectStore) -> list[str]:
    """Return the names of all objects."""
    return sorted(one["path"] for found in objects._store.list() for one in found)


def sizes(objects: ObjectStore) -> list[int]:
    """Return the sizes of all objects, in bytes."""
    return sorted(one["size"] for found in objects._store.list() for one in found)


def test_the_next_task_finds_what_the_last_one_left(site: Site, objects: ObjectStore) -> None:
    """Its files come from the store, and nothing of them is on the manager's volume."""
    first = site.begin()
    assert site.pod(first).live("echo made >file; mkdir -p a/b; echo deep >a/b/c; ../bin/air-queue --id b true") == 0
    site.commit(first)
    second = site.started("job", "b")
    pod = site.pod(second, "second")
    assert pod.live("cat file a/b/c; rm -r a; echo more >>file") == 0
    site.commit(second)
    assert site.world.job("job").phase == "succeeded"
    assert site.out(second, "output.log") == b"made\ndeep\n"
    assert os.listdir(site.workspace(second)) == []
    assert len(keys(objects)) == 2  # one for each run that changed anything: what was replaced is kept for a while


PREPARE = r"""
set -e
mkdir -p gone/deep folder folder-to-file/deep folder-to-link stays
for name in removed gone/deep/x old folder/x file-to-folder folder-to-file/deep/x kept; do printf $name >$name; done
for name in becomes-program was-program changed kept-time folder-to-link/x stays/x; do printf $name >$name; done
chmod +x was-program; ln -s stays link-to-folder
"""


def test_all_kinds_of_changes_arrive_as_they_were_left(site: Site) -> None:
    """What a third pod fetches is what the second one left, whatever its names and kinds; nothing comes back."""
    for name, script in (("a", PREPARE), ("b", CHANGES)):
        launch = site.begin() if name == "a" else site.started("job", name)
        pod = site.pod(launch, name)
        assert pod.live(f"{script}\n../bin/air-queue --id {chr(ord(name) + 1)} true") == 0, pod.said()
        site.commit(launch)
    left, changed = tree(pod.workspace), (pod.workspace / "kept-time").stat().st_mtime
    index = Path(site.layout.workspace_index("job"))
    before = index.read_bytes()
    third = site.started("job", "c")
    again = site.pod(third, "c")
    assert again.live("chmod 600 kept-time; mv kept kept2; mv kept2 kept") == 0, again.said()
    fetched = tree(again.workspace)
    assert {name: found for name, found in fetched.items() if name != b"pipe"} == {
        name: found for name, found in left.items() if name != b"pipe"
    }
    assert b"\xff\xfe" in fetched
    assert (again.workspace / "kept-time").stat().st_mtime == pytest.approx(changed, abs=1e-3)
    assert index.read_bytes() == before


def test_many_small_files_share_an_object(site: Site, objects: ObjectStore) -> None:
    """Thousands of files cost a handful of requests, and changing one of them moves that one alone."""
    launch = site.begin()
    pod = site.pod(launch)
    script = "for i in $(seq 3000); do echo $i >f$i; done; : >empty; ../bin/air-queue --id b true"
    assert pod.live(script) == 0, pod.said()
    site.commit(launch)
    assert len(sizes(objects)) == 1
    second = site.started("job", "b")
    pod = site.pod(second, "second")
    assert pod.live("ls | wc -l; cat f1 f2999; wc -c <empty; echo x >f7") == 0, pod.said()
    assert site.out(second, "output.log") == b"3001\n1\n2999\n0\n"
    assert sizes(objects) == [2, sum(len(f"{number}\n") for number in range(1, 3001))]


def test_what_breaks_off_changes_nothing(site: Site, objects: ObjectStore, s3: S3Server) -> None:
    """Changes that end within a large file leave no part of it in the store, and no small file before it."""
    launch = site.begin()
    pod = site.pod(launch, "first")
    assert pod.live("echo first >a; echo first >z; ../bin/air-queue --id b true") == 0
    site.commit(launch)
    before = keys(objects)
    second = site.started("job", "b")
    caller = Caller(site, second)
    part = b'{"kind": "file", "path": "a", "size": 2, "changed": 1}\nxx'
    part += b'{"kind": "file", "path": "large", "size": 30000000, "changed": 1}\n' + bytes(20 * MEBIBYTE)
    assert caller.apply(part).status == 422
    soon(lambda: keys(objects) == before, "the objects of it to be gone")
    soon(lambda: s3.unfinished() == 0, "the upload to be aborted")
    pod = site.pod(second)
    assert pod.live("cat a z; ls") == 0, pod.said()
    assert site.out(second, "output.log") == b"first\nfirst\na\nz\n"


def test_two_runners_of_one_job(site: Site) -> None:
    """Each delivers what it has changed; where both change a file the last one wins; a later one sees all of it."""
    tasks = [{"id": "a", "command": "do"}, {"id": "b", "command": "do"}]
    site.world.submit("job", *tasks, max_runners=2)
    first, second = site.started("job", "a"), site.started("job", "b")
    pods = [site.pod(first, "one"), site.pod(second, "two")]
    assert [pod.fetch() for pod in pods] == [0, 0]
    for pod, word in zip(pods, ("one", "two"), strict=True):
        delivering = pod.carrier("deliver")
        script = f"echo {word} >{word}; echo {word} >both; mkdir -p d; echo {word} >d/{word}"
        assert (pod.run(script).wait(PATIENCE), delivering.wait(PATIENCE)) == (0, 0), pod.said()
    site.world.ask("add", "job", tasks=[{"id": "c", "command": "do"}])
    site.commit(first)
    third = site.started("job", "c")
    pod = site.pod(third, "three")
    assert pod.live("cat one two both d/*") == 0, pod.said()
    assert site.out(third, "output.log") == b"one\ntwo\ntwo\none\ntwo\n"


def test_a_run_that_has_ended_changes_nothing_any_more(site: Site, objects: ObjectStore) -> None:
    """Others may work there: what it sends late is not taken, and nothing of it stays in the store."""
    launch = site.begin()
    pod = site.pod(launch)
    assert pod.fetch() == 0
    site.commit(launch)

    def is_known() -> bool:
        site.world.clock.pass_time(5)
        site.world.cycle()
        return bool(Client(site.layout.root).status("job").tasks["a"].attempts)

    soon(is_known, "the checkpoint")
    delivering = pod.carrier("deliver")
    pod.run("echo late >file").wait(PATIENCE)
    assert delivering.wait(PATIENCE) == carrier.LOST_CLAIM
    assert "has ended" in pod.said()
    assert keys(objects) == []


def test_what_was_there_before_the_setting(site: Site, quick_path: Path) -> None:
    """Files on the volume, of a job that began without the store or was submitted with some, are found and replaced."""
    launch = site.begin()
    given = site.workspace(launch)
    (given / "old").write_text("old\n")
    (given / "gone").write_text("gone\n")
    (given / "kept").write_text("kept\n")
    pod = site.pod(launch)
    assert pod.live("cat old; rm gone; echo new >old; ../bin/air-queue --id b true") == 0, pod.said()
    site.commit(launch)
    assert os.listdir(given) == ["kept"]
    second = site.started("job", "b")
    pod = site.pod(second, "second")
    assert pod.live("cat kept old; ls") == 0, pod.said()
    assert site.out(second, "output.log") == b"kept\nnew\nkept\nold\n"
