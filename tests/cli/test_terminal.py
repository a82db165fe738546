"""Output of a task cannot control the terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.model.plain_text import clean, clean_log


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("[red]not markup[/red]", "[red]not markup[/red]"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\nb\tc", "a b c"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("\udc80\udcff", "\\x80\\xff"),
        ("a\u061cb\u200bc\u200dd\ufeffe", "a\\u061cb\\u200bc\\u200dd\\ufeffe"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("a\u034fb\u115fc\u3164d\uffa0e", "a\\u034fb\\u115fc\\u3164d\\uffa0e"),
        ("x\ufe0f\ufe01\U000e0100\U000e01ef", "x\\ufe0f\\ufe01\\U000e0100\\U000e01ef"),
        ("\u2714\ufe0f 1\ufe0f\u20e3", "\u2714\ufe0f 1\ufe0f\u20e3"),
        ("\u2714\ufe0f\ufe0f", "\u2714\ufe0f\\ufe0f"),
    ],
)
def test_control_characters_of_a_value_become_visible(text: str, shown: str) -> None:
    """A name or a message becomes one line without control characters."""
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain\r", "plain"),
        ("10%\r50%\r100%", "100%"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m\x1b[0m"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP$q\x1b\\x", "x"),
        ("\x1bctext", "text"),
        ("\x9b2Jtext", "\\x9b2Jtext"),
        ("bell\x07", "bell\\x07"),
        ("\x1b[8mhidden", "hidden"),
        ("\x1b[1;08;31mhidden", "\x1b[1;31mhidden\x1b[0m"),
        ("\x1b[8:1mhidden\x1b[1;08:0mhidden", "hidden\x1b[1mhidden\x1b[0m"),
        ("\x1b[38:5:8;8mgrey", "\x1b[38:5:8mgrey\x1b[0m"),
        ("\x1b[38;5;8mgrey\x1b[38;2;8;8;8m", "\x1b[38;5;8mgrey\x1b[38;2;8;8;8m\x1b[0m"),
        ("a\u061cb\U000e0041", "a\\u061cb\\U000e0041"),
        ("a\U000e0100\u034f", "a\\U000e0100\\u034f"),
        ("\u200d joins", "\u200d joins"),
    ],
)
def test_only_colors_of_a_log_reach_the_terminal(line: str, shown: str) -> None:
    """Titles, links and cursor movements are dropped; colors are kept and reset at the end of the line."""
    assert clean_log(line) == shown


@given(st.text())
def test_no_text_gets_through_with_control_characters(text: str) -> None:
    """The clean form of any value is one printable line."""
    assert all(ord(c) >= 0x20 and not 0x7F <= ord(c) <= 0x9F for c in clean(text))


@given(st.text(alphabet=st.sampled_from("\x1b[]0;mJ\x07\\P\r\x9bx ")))
def test_no_log_gets_through_with_more_than_colors(line: str) -> None:
    """However a sequence is cut or nested, each remaining escape begins a color."""
    rest = clean_log(line)
    while "\x1b" in rest:
        _, _, rest = rest.partition("\x1b")
        assert rest.startswith("[")
        body = rest[1:].lstrip("0123456789;:")
        assert body.startswith("m")
    assert "\x07" not in rest
    assert "\x9b" not in rest
