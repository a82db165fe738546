"""Ids and the names that platforms get for them: unique, valid everywhere, and the same over an upgrade."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.model.names import MAX_ID, Slot, check_id, generated_id, is_generated_id, runner_name

PLATFORM_NAME = re.compile("[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""What Docker and Kubernetes both take, as host names too."""
ids = st.from_regex(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_-])?", fullmatch=True)


@pytest.mark.parametrize("name", ["t1", "t3-2", "Census", "my_job", "v1.2.3", "a--b", "con", "a-", "_a", "A" * MAX_ID])
def test_ids_are_the_users(name: str) -> None:
    """Letters of either case, digits, hyphens, underscores and dots; also what older versions kept for themselves."""
    assert check_id(name) == name
    assert not is_generated_id(name)


def test_a_generated_id_is_valid_and_nobody_elses() -> None:
    """It begins as nobody's does, and no task may be given one."""
    for name in (generated_id(1), generated_id(12, 3)):
        assert check_id(name) == name
        assert is_generated_id(name)


@pytest.mark.parametrize(
    ("job", "number", "name"),
    [
        ("census", 0, "air-census"),
        ("census", 12, "air-census--12"),
        ("a" * 40, 0, f"air-{'a' * 40}"),
        ("nightly-2", 1, "air-nightly-2--1"),
    ],
)
def test_names_that_runners_have_today_stay(job: str, number: int, name: str) -> None:
    """A manager of this version finds the runners that an older one started."""
    assert runner_name("air", Slot(job, number)) == name


@given(st.sets(ids, min_size=2, max_size=8), st.integers(0, 9999))
def test_names_are_valid_and_unique(jobs: set[str], number: int) -> None:
    """Whatever the ids, at the longest prefix and the highest slot."""
    slots = [Slot(check_id(job), at) for job in jobs for at in {0, number}]
    names = {runner_name("twelve-chars", slot) for slot in slots}
    assert len(names) == len(slots)
    assert all(PLATFORM_NAME.fullmatch(name) for name in names)


def test_ids_that_differ_only_in_case_or_marks_have_different_names() -> None:
    """Their readable part is the same."""
    names = [runner_name("air", Slot(job, 0)) for job in ("my-job", "My-Job", "my_job", "my.job", "my--job")]
    assert len(set(names)) == len(names)
    assert all(name.startswith("air-my-job") for name in names)
