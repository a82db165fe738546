"""Pieces of logs: bounded, cut at lines, harmless, and together the whole."""

from __future__ import annotations

import io
import random

from air_executor.web.log_colors import segments
from air_executor.web.log_text import MAX_LINE, MAX_LINES, MAX_PART, last_lines, last_part, line_number, next_part


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


def test_many_short_lines_are_bounded_too() -> None:
    """Each line is an element of the page, so a part has only so many; what is left out is said."""
    data = b"\n" * 20_000 + b"end\n"
    part = last_part(io.BytesIO(data))
    assert (len(part.lines), part.begin, part.lines[-1].text) == (MAX_LINES, len(data) - 4 - MAX_LINES + 1, "end")
    part = next_part(io.BytesIO(data), 10)
    assert (part.skipped, part.begin) == (part.begin - 10, len(data) - 4 - MAX_LINES + 1)


def test_lines_are_numbered() -> None:
    """From the beginning of the log on, unless that is very far."""
    data = io.BytesIO(b"a\nb\nc\n")
    assert [line_number(data, line.place) for line in last_part(data).lines] == [1, 2, 3]
    assert line_number(data, 5 << 20) is None
    assert last_lines(data, 2) == ["b", "c"]
    assert last_lines(io.BytesIO(b"x" * 100_000), 2)[0].endswith("more characters)")
    assert last_lines(io.BytesIO(b""), 2) == []


def test_colors_are_classes() -> None:
    """Sixteen of them: 256 and 16 million become the nearest; what is no color, or conceals, is gone."""
    assert segments("plain") == [("", "plain")]
    assert segments("\x1b[1;31mred\x1b[0m then \x1b[92mgreen\x1b[39m") == [
        ("bold f1", "red"),
        ("", " then "),
        ("f10", "green"),
    ]
    assert segments("\x1b[38;5;196mx\x1b[48;2;0;0;250my\x1b[49;38;5;7mz") == [("f9", "x"), ("f9 g4", "y"), ("f7", "z")]
    assert segments("\x1b[7mx\x1b[31my\x1b[27mz") == [("inverse", "x"), ("g1", "y"), ("f1", "z")]
    part = last_part(io.BytesIO(b"\x1b[8mhidden\x1b[0m\x1b]0;title\x07\x1b[2J\x1b[32m<b>\x1b[0m\n"))
    assert segments(part.lines[0].colored) == [("", "hidden"), ("f2", "<b>")]


def test_hostile_colors() -> None:
    """Whatever numbers a sequence has, its classes are those of the style sheet, and the text stays."""
    random.seed(5)
    known = {
        "bold",
        "faint",
        "italic",
        "under",
        "struck",
        "inverse",
        *(f"{kind}{n}" for kind in "fg" for n in range(16)),
    }
    for _ in range(3000):
        codes = "".join(random.choice("0123456789;:") for _ in range(random.randint(0, 20)))
        found = segments(f"a\x1b[{codes}mb")
        assert "".join(text for _, text in found) == "ab"
        assert {word for classes, _ in found for word in classes.split()} <= known, codes
