"""Lines at the end of a file, whatever whoever wrote before has left."""

from __future__ import annotations

from pathlib import Path

import pytest

from air_executor.errors import StoreError
from air_executor.store.append_only import append_lines


def test_half_a_line_is_ended_first(tmp_path: Path) -> None:
    """So that it spoils no other."""
    path = tmp_path / "log.jsonl"
    append_lines(str(path), b"one\n", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open("ab") as file:
        file.write(b"ha")
    append_lines(str(path), b"two\nthree\n", mode=0o600)
    assert path.read_bytes() == b"one\nha\ntwo\nthree\n"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A link leads nowhere, and a folder takes no lines."""
    (tmp_path / "link").symlink_to(tmp_path / "other")
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder"):
        with pytest.raises(StoreError):
            append_lines(str(tmp_path / name), b"x\n", mode=0o600)
    assert not (tmp_path / "other").exists()
