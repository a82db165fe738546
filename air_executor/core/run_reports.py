"""What an open run has reported so far, added up from the lines of its queue file as they come.

The manager's `report_reader` hands over what was appended. Only lines that report something are parsed; one that is
wrong, or too long for a report, counts as nothing here: it fails the run when that is committed. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from air_executor.errors import BadInputError
from air_executor.model import parsing, strict_json
from air_executor.model.problems import InvalidError
from air_executor.model.reports import ProgressReport, UsageReport, add_up

LONGEST_LINE = 8 * 1024
"""Bytes of a line that may be a report."""


@dataclass(slots=True)
class RunReports:
    """The reports of one run."""

    offset: int = 0
    """Bytes of its file that have been read."""
    has_file: bool = False
    """There is such a file, if only an empty one."""
    progress: ProgressReport | None = None
    """The newest."""
    reported: dict[str, float] = field(default_factory=dict)
    """Sums by name."""
    _rest: bytes = b""
    """The beginning of a line that is not complete."""
    _skips: bool = False
    """That line is too long for a report."""

    def take(self, data: bytes) -> bool:
        """Take in what was appended to the file; tell whether it reported something."""
        self.offset += len(data)
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"" if self._skips else self._rest + lines[0]
            self._rest, self._skips = b"", False
        self._rest += rest
        if len(self._rest) > LONGEST_LINE:
            self._skips = True
        if self._skips:
            self._rest = b""
        found = [self._take_line(line) for line in lines if b'"progress"' in line or b'"usage"' in line]
        return any(found)

    def finish(self) -> None:
        """Take in the last line, which nobody will complete."""
        line, self._rest = self._rest, b""
        self._take_line(line)

    def _take_line(self, line: bytes) -> bool:
        if not line or len(line) > LONGEST_LINE:
            return False
        try:
            raw = strict_json.loads(line, one_line=True)
            if not isinstance(raw, dict) or len(raw) != 1:
                return False
            if "progress" in raw:
                self.progress = parsing.read(ProgressReport, raw["progress"])
            elif "usage" in raw:
                add_up(self.reported, parsing.read(UsageReport, raw).usage)
            else:
                return False
        except (BadInputError, InvalidError):
            return False
        return True
