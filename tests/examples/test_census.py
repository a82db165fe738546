"""The census counts right, divides its work without loss, and gives its tasks ids that cannot collide."""

from __future__ import annotations

import keyword
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.model.names import check_id, is_generated_id

SOURCE = """\
class A:
    def one(self): ...
    async def two(self):
        def three(): ...
"""


@pytest.fixture(scope="module")
def census(load: Callable[[str], ModuleType]) -> ModuleType:
    """Return the example's functions."""
    return load("census")


@pytest.fixture
def stdlib(tmp_path: Path) -> Path:
    """Return a folder laid out as a standard library is."""
    files = ["alone.py", "pack/__init__.py", "pack/deep/inner.py", "site-packages/other.py", "__pycache__/alone.py"]
    for file in [*files, "data/notes.txt"]:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SOURCE)
    return tmp_path


def test_finds_packages_and_single_modules(census: ModuleType, stdlib: Path) -> None:
    """Folders with sources are packages; installed packages, caches and data are none of them."""
    assert census.find_packages(stdlib) == ["pack", census.MODULES]
    assert [path.name for path in census.find_sources(stdlib, census.MODULES)] == ["alone.py"]
    assert [path.name for path in census.find_sources(stdlib, "pack")] == ["__init__.py", "inner.py"]


def test_counts_a_package(census: ModuleType, stdlib: Path) -> None:
    """Methods, coroutines and inner functions are functions; what cannot be parsed still has lines."""
    (stdlib / "pack/broken.py").write_bytes(b"print 'old'\n\xff\n")
    assert census.count_files(census.find_sources(stdlib, "pack")) == {
        "modules": 3,
        "lines": 10,
        "functions": 6,
        "classes": 2,
        "unreadable": 1,
    }


@given(sizes=st.lists(st.integers(0, 3_000_000), max_size=60))
def test_halves_lose_nothing(census: ModuleType, sizes: list[int]) -> None:
    """However often work is halved, it ends, no part is empty, and together the parts are the whole."""
    parts, open_parts = [], [(0, len(sizes))]
    while open_parts:
        start, stop = open_parts.pop()
        middle = census.find_middle(sizes[start:stop])
        if middle:
            assert 0 < middle < stop - start
            open_parts += [(start, start + middle), (start + middle, stop)]
        else:
            assert sum(sizes[start:stop]) <= census.TOO_BIG or stop - start == 1
            parts.append((start, stop))
    assert [number for start, stop in sorted(parts) for number in range(start, stop)] == list(range(len(sizes)))


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,50}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))


@given(packages=st.sets(names, min_size=2, max_size=6))
def test_ids_are_valid_and_unique(census: ModuleType, packages: set[str]) -> None:
    """Any set of package names gets as many ids, all of them valid, also for parts."""
    tasks = [
        census.count_task(package, *part)
        for package in [*packages, census.MODULES]
        for part in [(), (0, 9999), (9, 9999)]
    ]
    ids = {check_id(task["id"]) for task in tasks}
    assert len(ids) == len(tasks)
    assert not any(is_generated_id(name) for name in ids)


def test_adds_up_parts_and_leaves_out_what_counted_nothing(census: ModuleType) -> None:
    """A package that was counted in parts is one row; tasks that only queued others are none."""
    part = dict.fromkeys(census.FIGURES, 2)
    results = [
        {"packages": 2},
        None,
        {"package": "small", **part},
        {"package": "big", **part},
        {"package": "big", **part},
    ]
    rows = census.add_up(results)
    assert list(rows) == ["big", "small"]
    assert rows["big"] == dict.fromkeys(census.FIGURES, 4)


def test_draws_a_table(census: ModuleType) -> None:
    """The table is Markdown with aligned columns and its totals last."""
    row = dict.fromkeys(census.FIGURES, 1234)
    lines = census.draw_table({"pack": row}, row).splitlines()
    assert [line.split()[1] for line in lines] == ["package", "-------", "pack", "total"]
    assert "1,234" in lines[2]
    assert len({len(line) for line in lines}) == 1
