"""A message that comes again and again is one line, not one every second."""

from __future__ import annotations

import logging

import pytest

from air_executor.cli.log_lines import MOST_MESSAGES, PAUSE, REMINDER, LineFormatter, RepeatFilter


class Log:
    """A log with the filter, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self._filter = RepeatFilter(lambda: self.now)

    def say(self, text: str, *args: object, level: int = logging.ERROR) -> None:
        """Log a message."""
        record = logging.LogRecord("x", level, "", 0, text, args, None)
        if self._filter.filter(record):
            self.lines.append(record.getMessage())


@pytest.fixture
def log() -> Log:
    """Return an empty log."""
    return Log()


def test_the_same_error_every_two_seconds(log: Log) -> None:
    """It is logged once, and then every ten minutes with the number of times."""
    for _ in range(301):
        log.say("%s is full", "the volume")
        log.now += 2
    assert log.lines == ["the volume is full", "the volume is full (repeated 300 times)"]


def test_other_messages_are_not_hidden(log: Log) -> None:
    """Of another job, or of another level; and what is no trouble is logged as often as it happens."""
    for job in ("a", "b"):
        log.say("job=%s is bad", job)
    log.say("job=a is bad", level=logging.WARNING)
    for _ in range(2):
        log.say("committed", level=logging.INFO)
    assert log.lines == ["job=a is bad", "job=b is bad", "job=a is bad", "committed", "committed"]


def test_what_comes_back_is_news(log: Log) -> None:
    """A trouble that was over, and is there again."""
    log.say("down")
    log.now += PAUSE + 1
    log.say("down")
    assert log.lines == ["down", "down"]
    assert PAUSE < REMINDER


def test_it_remembers_only_so_much(log: Log) -> None:
    """However many different messages there are, and with a percent sign in them."""
    for number in range(MOST_MESSAGES + 10):
        log.say(f"100%s of {number}", "%")
    log.lines.clear()
    for number in (MOST_MESSAGES + 9, 10, 9):  # the latest, the earliest that it knows, one that it has forgotten
        log.say(f"100%s of {number}", "%")
    assert log.lines == ["100% of 9"]


def test_times_are_those_of_the_library() -> None:
    """Within a second and across its end, whatever came before."""
    ours, theirs = LineFormatter(), logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    for created in (1_800_000_000.0, 1_800_000_000.9996, 1_800_000_001.25, 1_799_999_999.5, 1_800_000_000.0):
        record = logging.LogRecord("name", logging.INFO, "", 0, "said %s", ("x",), None)
        record.created, record.msecs = created, (created % 1) * 1000
        assert ours.format(record) == theirs.format(record)
