"""How often a page that follows something is read again."""

from __future__ import annotations

import time

import pytest

from air_executor.cli import watch
from air_executor.cli.pace import SHARE, Pace
from air_executor.cli.table import Line, line


def test_a_single_slow_read_is_not_paid_for() -> None:
    """The first read also imports modules; only where two take long is the pause longer."""
    pace = Pace(0.25)
    assert [pace.pause(took) for took in (0.5, 0.01, 0.4, 0.3, 0.01)] == [0.25, 0.25, 0.25, 0.3 * SHARE, 0.25]


def test_the_page_is_read_again_soon_after_a_slow_first_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--watch` in a pipe shows a change right after its first page."""
    pauses: list[float] = []
    real_sleep = time.sleep

    def page(_now: float, _width: int | None) -> list[Line]:
        if not pauses:
            real_sleep(0.15)
        return [line("after" if pauses else "before")]

    monkeypatch.setattr(time, "sleep", pauses.append)
    watch.print_changes(page, lambda: bool(pauses))
    assert capsys.readouterr().out == "before\n\nafter\n"
    assert pauses == [watch.PRINT_EVERY]
