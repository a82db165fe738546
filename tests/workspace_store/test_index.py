"""The index of a workspace: its rules are those of a folder, and what cannot be one is refused."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from air_executor.client import workspace_files as folder
from air_executor.errors import BadInputError, CorruptFileError, FormatTooNewError
from air_executor.model.workspace_index import Dropped, WorkspaceEntry, WorkspaceIndex, parse_index
from tests.conftest import MEMORY

NAMES = st.sampled_from(["a", "b", "c\n", "\udcff"])
PATHS = st.one_of(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join),
    st.sampled_from(["", ".", "..", "a/..", "/a", "a//b", "./a", "n" * 256, "a/" * 64 + "a", "nul\0x", "\ud800"]),
)
STEPS = st.lists(st.tuples(st.sampled_from(["file", "folder", "link", "remove"]), PATHS), max_size=25)


def apply_to_folder(top: str, kind: str, path: str) -> None:
    """Change a folder."""
    match kind:
        case "file":
            with folder.replacing_file(top, path) as file:
                file.write(path.encode("utf-8", "surrogatepass"))
        case "folder":
            folder.make_folder(top, path)
        case "link":
            folder.make_link(top, path, "a/b")
        case _:
            folder.remove_path(top, path)


def apply_to_index(index: WorkspaceIndex, kind: str, path: str) -> None:
    """Change an index."""
    match kind:
        case "file":
            index.put(path, WorkspaceEntry("file", len(path.encode("utf-8", "surrogatepass")), key="k"))
        case "folder":
            index.make_folder(path)
        case "link":
            index.put(path, WorkspaceEntry("link", target="a/b"))
        case _:
            index.remove(path)


def refused(change: Callable[[], None]) -> bool:
    """Make a change, and tell whether it was refused."""
    try:
        change()
    except BadInputError:
        return True
    return False


@settings(max_examples=200, deadline=None)
@given(steps=STEPS)
def test_an_index_follows_the_rules_of_a_folder(steps: list[tuple[str, str]]) -> None:
    """Whatever is put, made and removed, with whatever paths: both accept the same, and have the same afterwards."""
    index = WorkspaceIndex("s3://bucket")
    with tempfile.TemporaryDirectory(dir=MEMORY) as top:
        for kind, path in steps:
            of_folder = refused(partial(apply_to_folder, top, kind, path))
            of_index = refused(partial(apply_to_index, index, kind, path))
            assert of_folder == of_index, (kind, path)
        found = {}
        for above, folders, names in os.walk(top):
            for name in (*folders, *names):
                there = Path(above, name)
                kind = "link" if there.is_symlink() else "folder" if there.is_dir() else f"file {there.stat().st_size}"
                found[os.path.relpath(there, top)] = kind
    kinds = {path: f"file {one.size}" if one.kind == "file" else one.kind for path, one in index.entries.items()}
    assert kinds == found
    assert parse_index(index.dump(), "index") == index


def test_an_index_keeps_everything() -> None:
    """Names of any bytes, sizes, times, modes, links and objects that are to be deleted come back as they were."""
    index = WorkspaceIndex("s3://bucket/prefix", dropped=[Dropped("old", 12.5)])
    index.put("a/\udcff\n", WorkspaceEntry("file", 1 << 50, 1 << 62, executable=True, key="k", offset=7))
    index.put("b", WorkspaceEntry("link", target="\udcfe"))
    index.make_folder("empty/folder")
    assert parse_index(index.dump(), "index") == index


GOOD = WorkspaceIndex("s3://bucket", {"a": WorkspaceEntry("file", 1, key="k")}).dump()


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", GOOD[:-5], GOOD.rpartition(b'{"kind": "end"}')[0], b"[]\n[]\n", b"\xff", b"[" * 100_000, b"{}\n{}\n"],
)
def test_what_is_no_index(data: bytes) -> None:
    """It is refused, and never taken for an empty one."""
    with pytest.raises(CorruptFileError, match=r"workspace\.index"):
        parse_index(data, "workspace.index")


def test_a_later_format() -> None:
    """It is refused with what to do."""
    with pytest.raises(FormatTooNewError, match="use a newer version"):
        parse_index(GOOD.replace(b'"format": 1', b'"format": 2'), "workspace.index")


def test_an_index_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """More files than anybody needs, or names that fill memory, are refused."""
    monkeypatch.setattr("air_executor.model.workspace_index.MOST_ENTRIES", 3)
    index = WorkspaceIndex("s3://bucket")
    index.make_folder("a/b")
    index.put("c", WorkspaceEntry("link", target="x"))
    with pytest.raises(BadInputError, match="more than 3 files"):
        index.put("d", WorkspaceEntry("link", target="x"))
    monkeypatch.setattr("air_executor.model.workspace_index.MOST_TEXT", 100)
    index = WorkspaceIndex("s3://bucket")
    for _ in range(20):
        index.put("c", WorkspaceEntry("link", target="x" * 90))
        index.remove("c")
    with pytest.raises(BadInputError, match="too long names"):
        index.put("d", WorkspaceEntry("link", target="x" * 100))
