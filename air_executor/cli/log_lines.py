"""The lines of a command's log: their form, and which of them are left out.

Warnings and errors that are repeated word by word are logged once, and then every ten minutes: what fails is tried
again every second or two, and whoever logs it cannot know what was logged before. `session` adds both to the log of a
command. Knows nothing of what the messages mean.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

PAUSE = 60.0
"""Seconds after which a message that comes back is a new one."""
REMINDER = 600.0
"""Seconds between two lines with a message that is repeated all the time."""
MOST_MESSAGES = 1000


class LineFormatter(logging.Formatter):
    """Time, level and message; a busy manager logs many lines in a second, whose date is made once."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._second, self._text = -1, ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - the library's name
        """Return the record's time as the library writes it, in local time with milliseconds."""
        if (second := int(record.created)) != self._second:
            self._second = second
            self._text = time.strftime(datefmt or self.default_time_format, time.localtime(second))
        return f"{self._text},{int(record.msecs):03d}"


@dataclass(slots=True)
class _Seen:
    last: float
    logged: float
    hidden: int = 0


class RepeatFilter(logging.Filter):
    """Hides repeated warnings and errors."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: OrderedDict[tuple[int, str], _Seen] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is logged; one that was hidden before says how often."""
        if record.levelno < logging.WARNING:
            return True
        now, key = self._clock(), (record.levelno, record.getMessage())
        before = self._seen.pop(key, None)
        if before is None or now - before.last > PAUSE:
            before = _Seen(now, now)
        elif now - before.logged < REMINDER:
            before.last = now
            before.hidden += 1
            self._seen[key] = before
            return False
        else:
            record.msg, record.args = f"{key[1]} (repeated {before.hidden + 1} times)", ()
            before = _Seen(now, now)
        self._seen[key] = before
        if len(self._seen) > MOST_MESSAGES:
            self._seen.popitem(last=False)
        return True
