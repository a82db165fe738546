"""Pieces of logs: bounded, cut at lines, harmless, and together the whole."""

from __future__ import annotations

import io
import random

from air_executor.web.log_text import MAX_LINE, MAX_PART, last_part, next_part


def test_the_end_of_a_long_log() -> None:
    """Of a long log the last lines are given, from the beginning of one on; the piece before it continues backwards."""
    lines = [f"line {number}\n" for number in range(50_000)]
    data = "".join(lines).encode()
    end = last_part(io.BytesIO(data))
    assert len(end.text) <= MAX_PART
    assert data.endswith(end.text.encode())
    assert end.text.startswith("line ")
    assert (end.end, end.size) == (len(data), len(data))
    before = last_part(io.BytesIO(data), end.begin)
    assert data[: end.end].endswith((before.text + end.text).encode())


def test_whatever_is_appended_arrives_once() -> None:
    """A log that grows in random steps, in the middle of lines and of characters, arrives whole and in order."""
    random.seed(3)
    whole = "".join(random.choice(["ä", "line\n", "\n", "longer text ", "日本"]) for _ in range(3000)).encode()
    file, at, shown, rest = io.BytesIO(), 0, "", ""
    while at < len(whole):
        step = random.randint(1, 60)
        file.seek(0, io.SEEK_END)
        file.write(whole[at : at + step])
        at += step
        part = next_part(file, len(shown.encode()))
        shown, rest = shown + part.text, part.rest
        assert part.skipped == 0
    assert shown + rest == whole.decode()


def test_a_flood_is_left_out_and_said() -> None:
    """When more was appended than a piece holds, the newest is given, with the number of bytes left out."""
    data = b"old\n" + b"x" * 99 + b"\n" + b"flood\n" * 100_000
    part = next_part(io.BytesIO(data), 4)
    assert len(part.text) <= MAX_PART
    assert part.skipped == part.begin - 4 > 500_000
    assert part.end == len(data)


def test_a_line_without_an_end_is_bounded() -> None:
    """Megabytes without a line's end are no problem: a bounded piece, of which a bounded beginning is shown."""
    part = last_part(io.BytesIO(b"y" * 5_000_000))
    assert len(part.text) <= MAX_LINE + 50
    assert part.text.endswith("more characters)")
    assert part.rest == ""


def test_a_log_that_was_cut_begins_anew() -> None:
    """A task can truncate its log: what is there then is given from its beginning."""
    part = next_part(io.BytesIO(b"anew\n"), 4000)
    assert (part.text, part.begin, part.end) == ("anew\n", 0, 5)


def test_progress_bars_and_colours() -> None:
    """Of a line that overwrites itself the last state is left, colours go, and half lines stay apart."""
    part = last_part(io.BytesIO(b"\x1b[32mok\x1b[0m\n 10%\r 90%\nwait"))
    assert (part.text, part.rest) == ("ok\n 90%\n", "wait")
