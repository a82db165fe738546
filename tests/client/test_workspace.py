"""Files move into workspaces and out of them: over files and over HTTP, and never through a link or out of a folder."""

from __future__ import annotations

import contextlib
import filecmp
import io
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from air_executor.client import workspace_files
from air_executor.client.job_access import JobAccess
from air_executor.client.server_client import ServerClient
from air_executor.core.submission import parse_job
from air_executor.errors import AirExecutorError, BadInputError, DeniedError, NotFoundError
from air_executor.web.api import uploads
from air_executor.web.api.workspace_routes import BYTES
from tests.api.conftest import ServedApi
from tests.client.conftest import PATIENCE, Air, client_of
from tests.client.test_remote_commands import url
from tests.conftest import wait_for

BAD = ["..", "../x", "/etc/passwd", "a/../../x", "a//b", "./a", "a/", "a\0b", "x" * 300, "/".join("d" * 70)]


def job_with_files(access: JobAccess, served: ServedApi, stem: str) -> tuple[str, Path]:
    """Run a job that fills its workspace; return its id and the folder."""
    name = f"{stem}-{'s' if isinstance(access, ServerClient) else 'f'}"
    command = (
        'cd "$AIR_WORKSPACE"; mkdir -p a/b; echo one >a/one; echo two >a/b/two; echo x >run; chmod +x run; '
        "ln -s /etc/passwd link; ln -s / root; mkfifo pipe"
    )
    access.submit_all([parse_job({"id": name, "tasks": [{"command": command}]})])
    assert access.wait(name, PATIENCE).phase == "succeeded"
    return name, Path(served.client.layout.workspace(name))


def test_files_are_listed_read_and_written(access: JobAccess, served: ServedApi) -> None:
    """Regular files only, whole or in part, with the bit that lets them be executed."""
    name, folder = job_with_files(access, served, "files")
    files = access.workspaces
    assert {(one.path, one.size, one.executable) for one in files.files(name)} == {
        ("a/one", 4, False),
        ("a/b/two", 4, False),
        ("run", 2, True),
    }
    assert [one.path for one in files.files(name, "a/b")] == ["a/b/two"]
    with files.open(name, "a/one") as file:
        assert (file.read(2), file.read()) == (b"on", b"e\n")
    files.write(name, "new/deep/file", io.BytesIO(b"x" * 3_000_000), executable=True)
    files.write(name, "a/one", io.BytesIO(b""))
    assert (folder / "new/deep/file").stat().st_size == 3_000_000
    assert (folder / "new/deep/file").stat().st_mode & 0o100
    assert (folder / "a/one").read_bytes() == b""
    assert sorted(os.listdir(folder / "a")) == ["b", "one"], "nothing is left beside it"
    with pytest.raises(NotFoundError):
        files.open(name, "nobody")
    with pytest.raises(NotFoundError):
        list(files.files("nobody"))


def test_nothing_leads_out_of_a_workspace(access: JobAccess, served: ServedApi) -> None:
    """Neither a path nor a link that a task has put there; what is no file is not waited for."""
    name, folder = job_with_files(access, served, "inside")
    files = access.workspaces
    for bad in BAD:
        with pytest.raises(AirExecutorError):
            files.open(name, bad)
        with pytest.raises(AirExecutorError):
            files.write(name, bad, io.BytesIO(b"x"))
        with pytest.raises(AirExecutorError):
            list(files.files(name, bad))
    for path in ("link", "root/etc/passwd", "pipe", "a"):
        with pytest.raises((BadInputError, NotFoundError)):
            files.open(name, path)
    for path in ("root/tmp/air-out", "link/x", "a/one/x"):
        with pytest.raises(BadInputError):
            files.write(name, path, io.BytesIO(b"x"))
    assert not Path("/tmp/air-out").exists()  # noqa: S108 - where the link leads
    files.write(name, "link", io.BytesIO(b"mine"))
    assert not (folder / "link").is_symlink(), "the link itself is replaced"
    assert "root:" in Path("/etc/passwd").read_text()


def test_whose_job_it_is_decides(served: ServedApi) -> None:
    """A viewer sees no files, a submitter those of its own jobs; what is written is in the audit log."""
    served.submit("private", "echo secret >$AIR_WORKSPACE/secret", role="submitter")
    served.ended("private")
    for role, may in (("viewer", False), ("other", False), ("submitter", True), ("operator", True)):
        with closing(client_of(served, role)) as client:
            if may:
                assert [one.path for one in client.workspaces.files("private")] == ["secret"]
                client.workspaces.write("private", f"by-{role}", io.BytesIO(b"x"))
                Path(served.client.layout.workspace("private"), f"by-{role}").unlink()
                continue
            with pytest.raises(DeniedError):
                list(client.workspaces.files("private"))
            with pytest.raises(DeniedError):
                client.workspaces.open("private", "secret")
            with pytest.raises(DeniedError):
                client.workspaces.write("private", "x", io.BytesIO(b"x"))
    assert [line["who"] for line in served.audit if (line["action"], line["job"]) == ("workspace push", "private")] == [
        "submitter",
        "operator",
    ]


@pytest.mark.parametrize("kind", ["files", "server"])
def test_the_command_moves_folders_both_ways(  # noqa: PLR0917 - fixtures
    served: ServedApi, access: JobAccess, air: Air, monkeypatch: pytest.MonkeyPatch, outside: Path, kind: str
) -> None:
    """Push a folder, list it, and pull it elsewhere: the same files."""
    name, _ = job_with_files(access, served, f"moved-{kind}")
    monkeypatch.setenv("AIR_TOKEN", served.tokens["operator"])
    where = ["--state-dir", served.client.layout.root] if kind == "files" else ["--server", url(served)]
    Path("data/sub").mkdir(parents=True)
    Path("data/x").write_text("x")
    Path("data/sub/y").write_text("y")
    Path("data/out").symlink_to("/etc/passwd")
    done = air("workspace", "push", name, "data", "--to", "in", *where)
    assert (done.code, done.err) == (0, "2 files\n")
    Path(served.client.layout.workspace(name), "empty").mkdir(exist_ok=True)
    empty = air("workspace", "list", name, "empty", *where)
    assert (empty.out, empty.err) == ("", "0 files\n")
    assert air("workspace", "list", name, "in", *where).out.split() == ["in/data/x", "in/data/sub/y"]
    assert air("workspace", "pull", name, "in/data", "--to", "got", *where).code == 0
    assert (Path("got/data/x").read_text(), Path("got/data/sub/y").read_text()) == ("x", "y")
    assert air("workspace", "pull", name, "run", *where).code == 0
    assert os.access("run", os.X_OK)
    Path("got/data/sub/y").unlink()
    Path("got/data/sub").rmdir()
    Path("got/data/sub").symlink_to("/tmp")  # noqa: S108 - a place outside
    assert air("workspace", "pull", name, "in/data", "--to", "got", *where).code == 2
    assert (air("workspace", "push", name, *where).code, air("workspace", "move", name, *where).code) == (2, 2)
    assert air("workspace", "push", name, "missing", *where).code == 3


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[ServedApi]:
    """A manager that takes files of at most 40 MiB, and a job with a workspace."""
    made = ServedApi(tmp_path / "limited")
    made.root.mkdir()
    try:
        made.start(AIR_UPLOAD_LIMIT="40Mi")
        made.submit("large", role="admin")
        made.ended("large")
        yield made
    finally:
        made.stop()


def peak_memory(served: ServedApi) -> int:
    """Return the most memory that the manager has had, in bytes."""
    assert served.manager is not None
    status = Path(f"/proc/{served.manager.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) << 10


def test_a_large_file_costs_the_manager_no_memory(limited: ServedApi, tmp_path: Path) -> None:
    """It is stored as it comes; one beyond the limit is refused, and what was there stays."""
    folder = Path(limited.client.layout.workspace("large"))
    with closing(client_of(limited)) as client:
        client.workspaces.write("large", "warm", io.BytesIO(b"x"))
        before = peak_memory(limited)
        with open(tmp_path / "data", "wb") as file:
            file.write(os.urandom(1 << 20) * 40)
        for _ in range(2):
            with open(tmp_path / "data", "rb") as file:
                client.workspaces.write("large", "data", file)
        assert peak_memory(limited) - before < 15 << 20
        assert filecmp.cmp(folder / "data", tmp_path / "data", shallow=False)
        os.truncate(tmp_path / "data", (40 << 20) + 1)
        with open(tmp_path / "data", "rb") as file, pytest.raises(BadInputError, match="40Mi, the server's AIR_UPLOAD"):
            client.workspaces.write("large", "data", file)
        assert client.caller() == ("admin", "admin"), "the connection goes on"
    assert (folder / "data").stat().st_size == 40 << 20
    assert sorted(os.listdir(folder)) == ["data", "warm"]
    assert [line.get("refused", "")[:20] for line in limited.audit if line["action"] == "workspace push"][-1] == (
        "the file is larger t"
    )


def test_a_file_that_breaks_off_leaves_nothing(limited: ServedApi) -> None:
    """Neither one whose client goes, nor one without an end."""
    folder = Path(limited.client.layout.workspace("large"))
    head = (
        "PUT /api/v1/jobs/large/workspace/file?path=a/cut HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/octet-stream\r\nAuthorization: Bearer {limited.tokens['operator']}\r\n"
    )
    with socket.create_connection(("127.0.0.1", limited.port), timeout=PATIENCE) as client:
        client.sendall(f"{head}Content-Length: 3000000\r\n\r\n".encode() + bytes(2_000_000))
        wait_for(lambda: bool(os.listdir(folder / "a")) if (folder / "a").exists() else False, PATIENCE, "a file")
    wait_for(lambda: os.listdir(folder / "a") == [], PATIENCE, "the file to go")
    with socket.create_connection(("127.0.0.1", limited.port), timeout=PATIENCE) as client:
        client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        with contextlib.suppress(OSError):
            for _ in range(42):
                client.sendall(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")
    assert os.listdir(folder / "a") == []


def test_so_many_files_at_a_time(limited: ServedApi) -> None:
    """Slow clients occupy a stated number of connections, and everything else is answered."""
    head = (
        "PUT /api/v1/jobs/large/workspace/file?path=slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
        f"Content-Type: application/octet-stream\r\nAuthorization: Bearer {limited.tokens['operator']}\r\n\r\nx"
    ).encode()
    folder = Path(limited.client.layout.workspace("large"))
    with contextlib.ExitStack() as stack:
        for _ in range(uploads.AT_ONCE):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", limited.port), timeout=PATIENCE))
            client.sendall(head)
        wait_for(lambda: len(os.listdir(folder)) == uploads.AT_ONCE, PATIENCE, "all to be received")
        found = limited.ask("PUT", "/jobs/large/workspace/file?path=x", role="operator", body=b"x", Content_Type=BYTES)
        assert (found.status, "Retry-After".lower() in found.headers) == (429, True)
        assert limited.get("/jobs/large").status == 200
    wait_for(lambda: os.listdir(folder) == [], PATIENCE, "the files to go")


def test_folders_can_have_a_million_entries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So many are not listed."""
    monkeypatch.setattr(workspace_files, "MOST_LISTED", 3)
    for number in range(5):
        (tmp_path / str(number)).touch()
    with pytest.raises(BadInputError, match="more than 3 files"):
        list(workspace_files.list_files(str(tmp_path)))
