"""A store that is away, denies, or is another one; hostile runs; and what much data costs."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from air_executor.errors import BadInputError, StoreError
from air_executor.store import files, object_store, object_workspaces
from air_executor.store.object_store import ObjectStore
from air_executor.store.object_workspaces import JobKey, ObjectWorkspaces
from tests.lanes import NIGHTLY
from tests.transport.proxy import Proxy, Trouble
from tests.transport.rig import PATIENCE, Pod, Site, soon
from tests.transport.test_hostile_runs import FILE, ITSELF, NOT_THERE, OUT, Caller
from tests.workspace_store.s3 import SECRET, S3Server
from tests.workspace_store.test_carried import keys

pytestmark = pytest.mark.transport

MEBIBYTE = 1 << 20


def waits(pod: Pod, command: str) -> bool:
    """Tell whether a carrier waits."""
    return "waiting for the manager" in pod.said(command)


def test_a_store_that_is_away_is_waited_for(between: Proxy, site: Site, objects: ObjectStore) -> None:
    """Deliveries and fetches wait, and say for what; nothing is lost, and nothing is half there."""
    launch = site.begin()
    assert site.pod(launch, "first").live("echo made >file; ../bin/air-queue --id b true") == 0
    site.commit(launch)
    fetching, delivering = site.pod(site.started("job", "b"), "fetches"), site.pod(site.begin("other"), "delivers")
    assert delivering.fetch() == 0
    between.bring(Trouble(refuse=True))
    carriers = [fetching.carrier("fetch"), delivering.carrier("deliver")]
    delivering.run("echo more >file").wait(PATIENCE)
    for pod, command, verb in ((fetching, "fetch", "read"), (delivering, "deliver", "write")):
        soon(partial(waits, pod, command), "the carrier to wait")
        assert f"503: cannot {verb} the workspace store s3://" in pod.said(command)
        assert SECRET not in pod.said(command)
    assert site.out(delivering.launch, "exit.json") == b""
    between.bring(Trouble())
    assert [one.wait(PATIENCE) for one in carriers] == [0, 0]
    assert (fetching.workspace / "file").read_text() == "made\n"
    assert len(keys(objects)) == 2


def test_a_bad_way_to_the_store(between: Proxy, site: Site) -> None:
    """Connections that break in the middle, and delays: what arrives is what was left, in each of a chain of tasks."""
    launch = site.begin()
    between.bring(Trouble(share=0.3, most=300_000, delay=0.002))
    script = "head -c 9000000 /dev/urandom >large; for i in $(seq 200); do echo $i$RANDOM >f$i; done"
    told = set()
    for number in range(3):
        pod = site.pod(launch, f"pod{number}")
        assert pod.live(f"{script}; cat large f* | sha256sum; ../bin/air-queue --id t{number} true") == 0, pod.said()
        told.add(site.out(launch, "output.log"))
        site.commit(launch)
        launch, script = site.started("job", f"t{number}"), "true"
    assert len(told) == 1


def test_a_store_that_denies(url: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says that it denies, and has no secret."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(StoreError) as found:
        ObjectStore(url).check()
    text = str(found.value)
    assert text.startswith(f"cannot write the workspace store {url}: ")
    assert "403" in text
    assert "\n" not in text
    assert not {SECRET, "another-secret"} & set(text.split())


def test_no_line_has_what_may_be_signed() -> None:
    """Addresses in errors have no query: with Azure it can be the credentials themselves."""
    error = OSError("cannot GET https://a.example/c/x?sv=2024&sig=SECRET in 2 s\n\nDebug source:\nSECRET")
    assert object_store._line(error) == "cannot GET https://a.example/c/x?… in 2 s"


def test_another_store_than_before(site: Site, url: str) -> None:
    """A workspace that is elsewhere is refused with where that is, instead of counting as empty."""
    launch = site.begin()
    assert site.pod(launch).live("echo made >file; ../bin/air-queue --id b true") == 0
    site.commit(launch)
    workspaces = ObjectWorkspaces(site.layout, f"{url}-other")
    with pytest.raises(StoreError, match=f"is in {url}, and AIR_WORKSPACE_STORE is {url}-other"):
        workspaces.index("job")
    with pytest.raises(StoreError, match="set AIR_WORKSPACE_STORE to it"):
        object_workspaces.in_folder(site.layout, "job")


@pytest.mark.parametrize("kind", ["file", "folder", "link", "removed"])
def test_no_path_leads_out(site: Site, kind: str, objects: ObjectStore) -> None:
    """Hostile paths are refused as in a folder, and one of them spoils all that came with it."""
    caller = Caller(site, site.begin())
    there = [{**FILE, "path": "there", "size": 0}, {**FILE, "kind": "link", "path": "out", "target": "/etc"}]
    assert caller.send(*there, {**FILE, "kind": "folder", "path": "folder"}).status == 204
    index = Path(site.layout.workspace_index("job"))
    before = index.read_bytes()
    fine = {"folder": {"folder", *ITSELF}, "removed": {*NOT_THERE}}.get(kind, set())
    paths = [*OUT, *NOT_THERE, *ITSELF, *(["folder"] if kind != "removed" else [])]
    fresh = {**FILE, "path": "fresh"}
    answers = {
        path: caller.send(
            *([] if path in fine else [fresh]), {**FILE, "kind": kind, "path": path, "target": "x"}
        ).status
        for path in paths
    }
    assert answers == {path: 204 if path in fine else 422 for path in paths}
    assert index.read_bytes() == before
    assert keys(objects) == []


def test_more_changes_than_anybody_makes(site: Site, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """They do not fill the manager's memory."""
    monkeypatch.setattr(object_workspaces, "MOST_CHANGES", 10)
    launch = site.begin()
    workspaces = ObjectWorkspaces(site.layout, url)
    change = workspaces.change(JobKey("job", launch.run.rpartition("-")[0]))
    for _ in range(10):
        change.remove("x")
    with pytest.raises(BadInputError, match="more than 10 changes"):
        change.remove("x")


def test_replaced_objects_are_deleted_after_a_while(
    site: Site, url: str, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runner that starts may be reading what another one replaces; an hour later nobody does."""
    launch = site.begin()
    workspaces, job = ObjectWorkspaces(site.layout, url), JobKey("job", launch.run.rpartition("-")[0])

    def write(text: bytes) -> None:
        with workspaces.change(job) as change, change.replacing("file", len(text), 0, executable=False) as file:
            file.write(text)

    write(b"first")
    write(b"second")
    old = workspaces.index("job")
    assert len(keys(objects)) == 2
    later = time.time() + object_workspaces.KEPT + 1
    monkeypatch.setattr(time, "time", lambda: later)
    write(b"third")
    assert len(keys(objects)) == 2
    assert workspaces.open(old.entries["file"]).read() == b"second"
    assert [one.key for one in workspaces.index("job").dropped] == [old.entries["file"].key]


def test_a_volume_that_is_full(site: Site, url: str, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the store already when the index cannot be written is deleted, and the index is the old one."""
    launch = site.begin()
    workspaces, job = ObjectWorkspaces(site.layout, url), JobKey("job", launch.run.rpartition("-")[0])
    with workspaces.change(job) as change, change.replacing("file", 5, 0, executable=False) as file:
        file.write(b"first")
    before = keys(objects)

    def refuse(*_: object, **__: object) -> None:
        raise StoreError("the volume is full")

    monkeypatch.setattr(files, "replace", refuse)

    def change_all() -> None:
        with workspaces.change(job) as change:
            change.remove("file")
            with change.replacing("other", None, 0, executable=False) as file:
                file.write(b"second")

    with pytest.raises(StoreError, match="the volume is full"):
        change_all()
    assert keys(objects) == before
    assert list(workspaces.index("job").entries) == ["file"]


def test_an_index_that_was_written_after_all(site: Site, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the volume fails after the rename, what the index names stays in the store."""
    launch = site.begin()
    workspaces, job = ObjectWorkspaces(site.layout, url), JobKey("job", launch.run.rpartition("-")[0])

    def refuse(*_: object) -> None:
        raise StoreError("the volume is gone")

    def write() -> None:
        with workspaces.change(job) as change, change.replacing("file", 4, 0, executable=False) as file:
            file.write(b"text")

    with monkeypatch.context() as patch:
        patch.setattr(files, "fsync_dir", refuse)
        with pytest.raises(StoreError, match="the volume is gone"):
            write()
    assert workspaces.open(workspaces.index("job").entries["file"]).read() == b"text"
    write()
    assert workspaces.open(workspaces.index("job").entries["file"]).read() == b"text"


def test_a_large_file_costs_no_memory(site: Site) -> None:
    """Neither the manager's server nor the carrier holds it, in either direction, and what arrives is what was sent."""
    size = (1000 if NIGHTLY else 100) * MEBIBYTE
    launch = site.begin()
    pod = site.pod(launch, "first")
    assert pod.fetch() == 0
    before = site.server_memory()
    script = f"head -c {size} /dev/urandom >large"
    delivering = pod.carrier("deliver")
    pod.run(f"{script}; sha256sum <large; ../bin/air-queue --id b true")
    assert delivering.wait(PATIENCE) == 0, pod.said()
    site.commit(launch)
    second = site.started("job", "b")
    pod = site.pod(second, "second")
    assert pod.live("sha256sum <large") == 0, pod.said()
    assert site.out(second, "output.log") == site.out(launch, "output.log")
    assert site.server_memory() - before < 60 * MEBIBYTE
