"""Lines at the end of a file, whatever whoever wrote before has left."""

from __future__ import annotations

from pathlib import Path

import pytest

from air_executor.errors import StoreError
from air_executor.store.append_only import append_lines


@pytest.mark.parametrize("half", [b"", b"h", b"ha"])
@pytest.mark.parametrize("before", [[], [b"one\n"], [b"one\n", b"two\n"]])
def test_half_a_line_is_ended_first(tmp_path: Path, before: list[bytes], half: bytes) -> None:
    """So that it spoils no other; and nothing is put between whole ones."""
    path = tmp_path / "log.jsonl"
    for line in before:
        append_lines(str(path), line, mode=0o600)
        assert path.stat().st_mode & 0o777 == 0o600
    with path.open("ab") as file:
        file.write(half)
    append_lines(str(path), b"three\nfour\n", mode=0o600)
    assert path.read_bytes() == b"".join(before) + half + b"\n" * bool(half) + b"three\nfour\n"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A link leads nowhere, and a folder takes no lines."""
    (tmp_path / "link").symlink_to(tmp_path / "other")
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder"):
        with pytest.raises(StoreError, match=f"cannot write {tmp_path}/{name}"):
            append_lines(str(tmp_path / name), b"x\n", mode=0o600)
    assert not (tmp_path / "other").exists()
