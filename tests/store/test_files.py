"""How bytes reach the volume and come back: in one step or not at all, and never through what a task has laid."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from air_executor.errors import CorruptFileError, NotFoundError, StoreError
from air_executor.store import files, trees


def test_replace_leaves_nothing_aside(tmp_path: Path) -> None:
    """A file is replaced in one step and nothing is left beside it."""
    staging = tmp_path / "staging"
    staging.mkdir()
    target = tmp_path / "file"
    for data in (b"one", b"two" * 100_000):
        files.replace(str(target), data, str(staging))
        assert target.read_bytes() == data
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize("step", ["write", "rename", "fsync"])
@pytest.mark.parametrize("number", [28, 5, 30])
def test_refused_replace_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    """Whatever the volume refuses, the old file is whole, staging is empty, and the message names the path."""
    staging = tmp_path / "staging"
    staging.mkdir()
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def broken(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, broken)
        with pytest.raises(StoreError) as caught:
            files.replace(str(target), b"new", str(staging))
    assert str(tmp_path) in str(caught.value)
    assert target.read_bytes() == b"old"
    assert list(staging.iterdir()) == []


def test_replace_in_a_place_that_is_gone(tmp_path: Path) -> None:
    """A manager whose place to build was removed by its successor cannot replace anything."""
    target = tmp_path / "file"
    target.write_bytes(b"successor's")
    with pytest.raises(NotFoundError):
        files.replace(str(target), b"stale", str(tmp_path / "gone"))
    assert target.read_bytes() == b"successor's"


def test_write_new_is_exclusive(tmp_path: Path) -> None:
    """What exists is not written."""
    path = tmp_path / "file"
    files.write_new(str(path), b"first", sync=True)
    with pytest.raises(FileExistsError):
        files.write_new(str(path), b"second", sync=True)
    assert path.read_bytes() == b"first"


def test_write_all_goes_on_after_short_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that takes a few bytes at a time gets all of them."""
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, bytes(data[:3])))
    files.write_new(str(tmp_path / "file"), b"0123456789", sync=False)
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_hostile_reads(tmp_path: Path) -> None:
    """A fifo, a symlink, a directory, a device or too much of it is refused at once; a missing file is none."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder").mkdir()
    (tmp_path / "long").write_bytes(b"12345")
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(50 * 1024**3)
    for name in ("fifo", "link", "dangling", "folder", "long", "huge"):
        with pytest.raises(CorruptFileError, match=name):
            files.read(str(tmp_path / name), 4)
    with pytest.raises(CorruptFileError):
        files.read("/dev/zero", 4)
    assert files.read(str(tmp_path / "nothing"), 4) is None
    found = files.read(str(tmp_path / "long"), 5)
    assert found is not None
    assert found[0] == b"12345"


def test_both_ends_of_a_file(tmp_path: Path) -> None:
    """A short file is its own head; of a long one the middle is not read; hostile files are refused as ever."""
    path = tmp_path / "file"
    for size in (0, 3, 4, 5, 6, 100):
        data = bytes(range(size))
        path.write_bytes(data)
        assert files.read_ends(str(path), 5, 3) == (data[:5], data[-3:] if size else b"")
    assert files.read_ends(str(tmp_path / "nothing"), 5, 3) is None
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(path)
    for name in ("fifo", "link"):
        with pytest.raises(CorruptFileError, match=name):
            files.read_ends(str(tmp_path / name), 5, 3)


def test_read_of_a_file_that_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that grows while it is read is refused once it is beyond the limit."""
    path = tmp_path / "file"
    path.write_bytes(b"1")
    whole = os.read

    def grow(fd: int, size: int) -> bytes:
        with path.open("ab") as file:
            file.write(b"x" * 100)
        return whole(fd, size)

    monkeypatch.setattr(os, "read", grow)
    with pytest.raises(CorruptFileError, match="more than the 25 bytes"):
        files.read(str(path), 25)


def test_quarantine_never_overwrites(tmp_path: Path) -> None:
    """Every unreadable file is kept under a name of its own."""
    path = tmp_path / "state.json"
    kept = []
    for data in (b"one", b"two", b"three"):
        path.write_bytes(data)
        kept.append(files.quarantine(str(path)))
        assert not path.exists()
    assert [Path(name).read_bytes() for name in kept] == [b"one", b"two", b"three"]
    assert all(name.endswith(".corrupt") for name in kept)


def test_a_tree_of_any_depth_goes(tmp_path: Path) -> None:
    """Folders deeper than recursion, paths and descriptors reach, links and read-only files: all of it is removed."""
    top, outside = tmp_path / "top", tmp_path / "outside"
    top.mkdir()
    outside.mkdir()
    (outside / "kept").write_text("kept", encoding="utf-8")
    at = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.symlink(outside, "link", dir_fd=at)
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    trees.remove_tree(str(top))
    assert not top.exists()
    assert os.listdir(outside) == ["kept"]


@pytest.mark.parametrize("name", ["link", "file", "nothing"])
def test_what_is_no_tree_goes_too(tmp_path: Path, name: str) -> None:
    """A file or a link goes itself; what the link leads to stays."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "file").touch()
    trees.remove_tree(str(tmp_path / name))
    assert not os.path.lexists(tmp_path / name)
    assert os.listdir(tmp_path / "folder") == ["kept"]


def test_a_refused_access_names_user_and_owner(tmp_path: Path) -> None:
    """On a volume of root people need to know who has to be given what."""
    inner = tmp_path / "not there" / "file"
    with pytest.raises(StoreError, match=rf"this is uid {os.geteuid()}; {tmp_path} belongs to uid {os.getuid()}"):
        files.fail("create", str(inner), PermissionError(errno.EACCES, "Permission denied"))
