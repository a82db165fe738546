"""Beside the task: deliver output and queued lines as they come, and the rest once it has ended."""

from __future__ import annotations

import os
import signal
import time
import urllib.parse

from .folders import CLAIM, EXIT, LOG, QUEUE, RESULT, Folders, read_file
from .growing import Growing
from .task_runner import Runner
from .uplink import CONFLICT, AnswerError, Uplink, say
from .workspace_changes import deliver_workspace

RESULT_LIMIT = 16 * 1024 + 1
"""Bytes of a result that are delivered: one more than the manager takes, so that it can say so."""
QUEUE_LIMIT = 64 * 1024 * 1024 + 1
"""The same for queued lines."""
QUICK, SLOW = 0.05, 0.5
"""Seconds between two looks at what the task has written: from the first to the second while nothing comes."""
ASK_AFTER = 10.0
"""Seconds between two questions whether a command that has not begun still may: one may have died before it could."""


def may_begin(manager: Uplink, runner: Runner) -> bool:
    """Ask whether a command that was not seen to begin may do so, or has done so by now.

    Raises: as `Uplink.ask`, but for what says that it may not.
    """
    try:
        manager.ask("POST", "claim")
    except AnswerError as error:
        if error.status != CONFLICT:
            raise
        if not runner.has_begun():
            say(f"nothing to deliver: {error}")
            return False
    return True


def deliver(manager: Uplink, folders: Folders) -> None:
    """Deliver what the task leaves, and the outcome after all else."""
    runner = Runner(folders, signaled="AIR_CARRIER_SIGNALED" in os.environ)

    def stop(*_: object) -> None:
        runner.stopped = True

    signal.signal(signal.SIGTERM, stop)
    growing = [Growing(manager, folders.out, LOG), Growing(manager, folders.out, QUEUE, QUEUE_LIMIT)]
    pause, ask_at = QUICK, time.monotonic() + ASK_AFTER
    while (outcome := runner.outcome()) is None and not runner.is_gone():
        pause = QUICK if sum(one.send() for one in growing) else min(SLOW, 1.2 * pause)
        time.sleep(pause if runner.begun is not None else QUICK)
        if runner.begun is None and time.monotonic() > ask_at:
            if not may_begin(manager, runner):
                break
            ask_at = time.monotonic() + ASK_AFTER
    outcome = runner.outcome()  # it may have come while its processes were looked for
    if not runner.has_begun():
        return
    for one in growing:
        one.send()
    if result := read_file(f"{folders.out}/{RESULT}", RESULT_LIMIT):
        manager.ask("PUT", "result", result)
    deliver_workspace(manager, folders)
    if outcome is not None:
        # By the files' own times: we may have waited for the manager meanwhile.
        times = {"started_ago": CLAIM, "ended_ago": EXIT}
        ago = {word: max(0.0, time.time() - os.lstat(f"{folders.out}/{name}").st_mtime) for word, name in times.items()}
        manager.ask("PUT", f"outcome?{urllib.parse.urlencode(ago)}", outcome)
