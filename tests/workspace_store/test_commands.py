"""What people do with workspaces in an object store: push, pull, prune, and settings that cannot work."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from air_executor import wiring
from air_executor.client import Client
from air_executor.client.server_client import ServerClient
from air_executor.errors import BadInputError, NotFoundError
from air_executor.settings import load
from air_executor.store.object_store import ObjectStore
from air_executor.store.object_workspaces import ObjectWorkspaces
from air_executor.store.retention import Retention
from tests.transport.proxy import Proxy, Trouble
from tests.transport.rig import Site
from tests.workspace_store.test_carried import keys

pytestmark = pytest.mark.transport

MEBIBYTE = 1 << 20
HTTP = {
    "backend": "kubernetes",
    "kubernetes.transport": "http",
    "kubernetes.transport_url": "http://127.0.0.1:9464",
}


@pytest.mark.parametrize("over", ["files", "http"])
def test_files_move_in_and_out(quick_path: Path, url: str, over: str, objects: ObjectStore) -> None:
    """Over files and over HTTP: what tasks left is listed and read, and what is written is there for the next task."""
    secret = quick_path / "token"
    secret.write_text("an-admin-of-this-test-alone")
    site = Site(quick_path, workspace_store=url, admin_token_file=str(secret))
    client = ServerClient(f"http://127.0.0.1:{site.port}", secret.read_text())
    with closing(client), closing(site):
        launch = site.begin()
        script = "mkdir -p a/b; echo one >a/one; echo two >a/b/two; echo x >run; chmod +x run; ln -s /etc/passwd link"
        assert site.pod(launch, "first").live(f"{script}; : >empty; ../bin/air-queue --id b true") == 0
        site.commit(launch)
        files = client.workspaces if over == "http" else Client(site.layout.root, url).workspaces
        listed = {(one.path, one.size, one.executable) for one in files.files("job")}
        assert listed == {("a/one", 4, False), ("a/b/two", 4, False), ("run", 2, True), ("empty", 0, False)}
        assert [one.path for one in files.files("job", "a/b")] == ["a/b/two"]
        with files.open("job", "a/one") as file:
            assert (file.read(2), file.read()) == (b"on", b"e\n")
        with files.open("job", "empty") as file:
            assert file.read() == b""
        large = os.urandom(9 * MEBIBYTE)
        files.write("job", "new/large", io.BytesIO(large), executable=True)
        files.write("job", "a/one", io.BytesIO(b"ONE\n"))
        with files.open("job", "new/large") as file:
            assert file.read() == large
        for path in ("link", "a", "link/x", "..", "/etc/passwd"):
            with pytest.raises((BadInputError, NotFoundError)):
                files.open("job", path)
            with pytest.raises((BadInputError, NotFoundError)):
                files.write("job", path if path != "link" else "run/x", io.BytesIO(b"x"))
        with pytest.raises(NotFoundError):
            list(files.files("job", "nothing"))
        second = site.started("job", "b")
        assert site.pod(second, "second").live("cat a/one; wc -c <new/large; test -x new/large && echo runs") == 0
        assert site.out(second, "output.log") == f"ONE\n{len(large)}\nruns\n".encode()
        assert not any(Path(site.layout.workspace("job")).iterdir())
        with pytest.raises(BadInputError, match="set AIR_WORKSPACE_STORE to it"):
            list(Client(site.layout.root).workspaces.files("job"))
        assert len(keys(objects)) == 3


def test_the_commands(site: Site, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`workspace push` and `pull` find the store by the setting."""
    site.begin()
    monkeypatch.setenv("AIR_WORKSPACE_STORE", url)
    monkeypatch.setenv("AIR_STATE_DIR", site.layout.root)
    (tmp_path / "in").write_text("text")
    for words in (["push", "job", str(tmp_path / "in")], ["pull", "job", "in", "--to", str(tmp_path / "out")]):
        subprocess.run([sys.executable, "-m", "air_executor", "workspace", *words], check=True)
    assert (tmp_path / "out/in").read_text() == "text"


def test_objects_are_deleted_with_their_job(between: Proxy, site: Site, url: str, objects: ObjectStore) -> None:
    """Not when it is archived; where the store does not answer the job stays, and says why."""
    for name in ("one", "two"):
        launch = site.begin(name)
        assert site.pod(launch, name).live("echo made >file") == 0
        site.commit(launch)
    retention = Retention(site.layout, lambda *_: nullcontext(), ObjectWorkspaces(site.layout, url))
    later = time.time() + 1e6
    archived = [one.action for one in retention.archive(["one"])]
    assert (archived, len(keys(objects))) == (["archived"], 2)
    between.bring(Trouble(refuse=True))
    spared = {one.id: (one.action, one.reason) for one in retention.prune(later, delete=True, dry_run=False)}
    assert {action for action, _ in spared.values()} == {"spared"}
    assert all(str(reason).startswith("cannot delete from the workspace store s3://") for _, reason in spared.values())
    between.bring(Trouble())
    retention = Retention(site.layout, lambda *_: nullcontext(), ObjectWorkspaces(site.layout, url))
    unset = Retention(site.layout, lambda *_: nullcontext()).prune(later, delete=True, dry_run=False)
    assert all("set AIR_WORKSPACE_STORE" in str(one.reason) for one in unset)
    done = {one.id: one.action for one in retention.prune(later, delete=True, dry_run=False)}
    assert done == {"one": "deleted", "two": "deleted"}
    assert keys(objects) == []
    assert not os.path.exists(site.layout.job("two"))


@pytest.mark.parametrize(
    "url",
    [
        "bucket",
        "http://bucket/x",
        "s3://",
        "s3:///x",
        "s3://key:secret@bucket/x",
        "s3://bucket/x?secret=1",
        "s3://bucket/#x",
        "file://host/x",
        "file:x",
        "s3://bucket/a b",
        "memory://x",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    """Without what was given, which may be a secret."""
    with pytest.raises(BadInputError) as found:
        load({"workspace_store": url}, env={})
    assert "must be like s3://bucket/prefix" in str(found.value)
    assert "secret" not in str(found.value)


def test_it_needs_runs_without_a_volume(tmp_path: Path) -> None:
    """Tasks that share a folder have no use for it: that is said at the start."""
    for backend in ("local", "docker", "kubernetes"):
        settings = load({"workspace_store": "s3://bucket", "backend": backend}, env={}, cwd=str(tmp_path))
        with pytest.raises(BadInputError, match="AIR_KUBERNETES_TRANSPORT=http or AIR_DOCKER_TRANSPORT=http"):
            wiring.check_backend(settings)
    wiring.check_backend(load({"workspace_store": "s3://bucket", **HTTP}, env={}, cwd=str(tmp_path)))


def test_the_library_is_an_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without it the setting is refused with what to install; without the setting nobody imports it."""
    settings = load({"workspace_store": "s3://bucket", **HTTP}, env={}, cwd=str(tmp_path))
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(BadInputError, match=r"pip install 'air-executor\[objects\]'"):
        wiring.check_backend(settings)


def test_doctor_asks_the_store(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes, reads and deletes an object; one that denies is a failure with what to do."""
    settings = load({"workspace_store": url, **HTTP}, env={})
    (found,) = wiring._check_store(settings)
    assert (found.verdict, found.text) == ("ok", f"{url} takes, returns and deletes objects")
    assert keys(ObjectStore(url)) == []
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    (found,) = wiring._check_store(settings)
    assert found.verdict == "failed"
    assert "403" in found.text
    assert found.remedy


def test_a_store_in_a_folder(tmp_path: Path) -> None:
    """`file://` is a store like the others, of a volume that others mount."""
    store = ObjectStore(f"file://{tmp_path}/new/folder")
    store.check()
    with store.write("a/b") as file:
        file.write(b"text")
    assert store.read("a/b", 1, 3) == b"ex"
    store.delete_below("a")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
