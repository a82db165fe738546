"""The cache of results by itself: how old an entry may be, which files it keeps, and what it puts back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from air_executor.errors import BadInputError, CorruptFileError, NotFoundError, StoreError
from air_executor.model.memo import CachedFile, CacheEntry
from air_executor.store import memo_cache
from air_executor.store.layout import Layout
from air_executor.store.memo_cache import MemoCache
from air_executor.store.memo_key import DIGITS

KEY = "a" * DIGITS
ENTRY = CacheEntry(
    key=KEY,
    depends={"command": "x"},
    made_at=100.0,
    expires_at=150.0,
    job="j",
    task="a",
    run="1-a",
    seconds=2.5,
    cost=0.5,
    currency="EUR",
    result={"n": 1},
)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with two files, one of which is a program in a folder."""
    found = tmp_path / "workspace"
    (found / "bin").mkdir(parents=True)
    (found / "model").write_text("12345")
    (found / "bin/run").write_text("#!")
    (found / "bin/run").chmod(0o750)
    return found


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    """A folder for what is built."""
    found = tmp_path / "staging"
    found.mkdir()
    return found


def test_an_entry_comes_back_whole(
    layout: Layout, workspace: Path, staging: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its fields, and its files with their modes, in folders that are made; nothing is left of the building."""
    monkeypatch.setattr(memo_cache, "CHUNK", 2)
    cache = MemoCache(layout)
    assert cache.store(ENTRY, ["model", "bin/run"], str(workspace), str(staging), replaces=False)
    found = cache.find(KEY, 100.0, 50.0)
    assert found is not None
    model, program = found.files
    assert (model.path, model.size) == ("model", 5)
    assert program == CachedFile(path="bin/run", size=2, sha256=program.sha256, mode=0o750)
    assert {name: getattr(found, name) for name in ENTRY.__slots__ if name != "files"} == {
        name: getattr(ENTRY, name) for name in ENTRY.__slots__ if name != "files"
    }
    other = tmp_path / "other"
    other.mkdir()
    for _ in range(2):
        cache.restore(found, str(other), str(staging))
    assert ((other / "model").read_text(), (other / "bin/run").read_text()) == ("12345", "#!")
    assert (other / "bin/run").stat().st_mode & 0o777 == 0o750
    assert os.listdir(staging) == []


@pytest.mark.parametrize(
    ("now", "age", "found"),
    [(100.0, 0.5, True), (109.9, 10.0, True), (110.0, 10.0, False), (90.0, 10.0, True), (89.9, 10.0, False)],
)
def test_an_entry_is_found_for_its_age(
    layout: Layout, workspace: Path, staging: Path, now: float, age: float, *, found: bool
) -> None:
    """And as long before it was made: clocks of two hosts differ, but not for ever."""
    cache = MemoCache(layout)
    assert cache.find(KEY, now, age) is None
    cache.store(ENTRY, [], str(workspace), str(staging), replaces=False)
    assert (cache.find(KEY, now, age) is not None) == found


def test_the_first_one_is_kept_unless_it_is_replaced(layout: Layout, workspace: Path, staging: Path) -> None:
    """One whose time is over is replaced by any."""
    cache = MemoCache(layout)
    for job, made_at, replaces, kept in (
        ("first", 100.0, False, "first"),
        ("second", 149.0, False, "first"),
        ("third", 149.0, True, "third"),
        ("fourth", 199.0, False, "fourth"),
    ):
        entry = CacheEntry(key=KEY, depends={}, made_at=made_at, expires_at=made_at + 50, job=job, task="a", run="1")
        assert cache.store(entry, [], str(workspace), str(staging), replaces=replaces) == (kept == job)
        found = cache.find(KEY, made_at, 1000.0)
        assert found is not None
        assert found.job == kept
    assert [name for name in os.listdir(staging) if name.startswith("entry-")] == []


def test_what_is_too_large_is_not_kept(
    layout: Layout, workspace: Path, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself or together with others; to the byte. Nor is what is missing."""
    cache = MemoCache(layout)
    for most, names, said in (
        (4, ["model"], "model: more than"),
        (6, ["model", "bin/run"], "memoize.outputs: more than"),
        (7, ["model", "none"], "memoize.outputs: there is no none in the workspace"),
    ):
        monkeypatch.setattr(memo_cache, "MOST_KEPT", most)
        with pytest.raises(BadInputError, match=f"^{said}"):
            cache.store(ENTRY, names, str(workspace), str(staging), replaces=False)
        assert os.listdir(staging) == []
    assert cache.store(ENTRY, ["model", "bin/run"], str(workspace), str(staging), replaces=False)
    monkeypatch.setattr(memo_cache, "MOST_KEPT", 5)
    assert cache.store(ENTRY, ["model"], str(workspace), str(staging), replaces=True)
    with pytest.raises(CorruptFileError, match="bin: not a regular file"):
        cache.store(ENTRY, ["bin"], str(workspace), str(staging), replaces=True)


def test_entries_whose_time_is_over_are_removed(layout: Layout, workspace: Path, staging: Path) -> None:
    """From that moment on; what is no entry of a key, or cannot be read, stays, and so do those behind it."""
    cache = MemoCache(layout)
    broken = [Path(layout.cache, digit * DIGITS) for digit in "012345"]
    for key, expires_at in ((KEY, 150.0), ("f" * DIGITS, 140.0), ("e" * DIGITS, 130.0)):
        entry = CacheEntry(key=key, depends={}, made_at=100.0, expires_at=expires_at, job="j", task="a", run="1")
        cache.store(entry, [], str(workspace), str(staging), replaces=False)
    for path in broken:
        path.mkdir()
        (path / "entry.json").write_text("{")
    Path(layout.cache, f"{KEY}-notes").mkdir()
    left = {KEY, f"{KEY}-notes", *(path.name for path in broken)}
    assert (cache.prune(129.9), cache.prune(140.0), set(os.listdir(layout.cache))) == (0, 2, left)
    assert (cache.prune(150.0), set(os.listdir(layout.cache))) == (1, left - {KEY})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "has no entry.json"),
        ("{", "entry.json: no readable entry"),
        ("another", "is the entry of another key"),
    ],
)
def test_a_broken_entry_is_moved_away(
    layout: Layout, workspace: Path, staging: Path, text: str | None, said: str
) -> None:
    """The message says why, and where it is now."""
    cache = MemoCache(layout)
    cache.store(ENTRY, [], str(workspace), str(staging), replaces=False)
    path = Path(layout.cache, KEY, "entry.json")
    whole = path.read_text()
    if text is None:
        path.unlink()
    else:
        path.write_text(whole.replace(KEY, "b" * DIGITS) if text == "another" else text)
    with pytest.raises(CorruptFileError, match=f"{said}; moved to ") as caught:
        cache.find(KEY, 100.0, 50.0)
    assert Path(str(caught.value).rpartition("moved to ")[2]).is_dir()
    assert cache.find(KEY, 100.0, 50.0) is None


def test_files_that_are_others_are_not_put_back(layout: Layout, workspace: Path, staging: Path, tmp_path: Path) -> None:
    """Even of the same size; nothing of them gets into the workspace, and the entry is moved away."""
    cache = MemoCache(layout)
    cache.store(ENTRY, ["model"], str(workspace), str(staging), replaces=False)
    found = cache.find(KEY, 100.0, 50.0)
    assert found is not None
    Path(layout.cache, KEY, "files/0").write_text("54321")
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(CorruptFileError, match="the content of model is not the one that was kept; moved to "):
        cache.restore(found, str(other), str(staging))
    assert (os.listdir(other), os.listdir(staging), cache.find(KEY, 100.0, 50.0)) == ([], [], None)


def test_a_folder_in_the_place_of_a_file_stays(layout: Layout, workspace: Path, staging: Path, tmp_path: Path) -> None:
    """The message names the file."""
    cache = MemoCache(layout)
    cache.store(ENTRY, ["model"], str(workspace), str(staging), replaces=False)
    found = cache.find(KEY, 100.0, 50.0)
    assert found is not None
    (tmp_path / "other/model").mkdir(parents=True)
    with pytest.raises(StoreError, match="put a cached file in place of model: Is a directory"):
        cache.restore(found, str(tmp_path / "other"), str(staging))
    assert os.listdir(staging) == []


def test_what_is_in_the_way_is_said(layout: Layout, workspace: Path, staging: Path, tmp_path: Path) -> None:
    """A folder that is a link is not followed; one that is missing is named; a kept file must be a regular one."""
    cache = MemoCache(layout)
    cache.store(ENTRY, ["bin/run"], str(workspace), str(staging), replaces=False)
    found = cache.find(KEY, 100.0, 50.0)
    assert found is not None
    other, elsewhere = tmp_path / "other", tmp_path / "elsewhere"
    other.mkdir()
    elsewhere.mkdir()
    (other / "bin").symlink_to(elsewhere)
    with pytest.raises(NotFoundError, match="bin/run: not found"):
        cache.restore(found, str(other), str(staging))
    with pytest.raises(NotFoundError, match="0: not found"):
        cache.restore(found, str(workspace), f"{staging}/none")
    kept = Path(layout.cache, KEY, "files/0")
    kept.unlink()
    kept.mkdir()
    with pytest.raises(CorruptFileError, match="0: not a regular file; moved to "):
        cache.restore(found, str(workspace), str(staging))
    assert (os.listdir(elsewhere), os.listdir(staging)) == ([], [])
