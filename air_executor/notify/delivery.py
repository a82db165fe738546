"""Delivers one notification: reads the job as the volume has it, puts the message together and sends it.

The notifier's threads call it, so it shares nothing with the manager but files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from air_executor.backends.container.secret_scrubber import SecretScrubber
from air_executor.core.notices import FAILURE, failed_task, message_of
from air_executor.errors import AirExecutorError, NotFoundError, StoreError
from air_executor.model.notice import Notice
from air_executor.model.plain_text import plain_log
from air_executor.model.state import JobState
from air_executor.notify.targets import Targets
from air_executor.store.jobs import Jobs
from air_executor.store.layout import Layout
from air_executor.store.run_logs import open_log
from air_executor.store.secret_files import secret_values

READ = 64 * 1024
"""Bytes of the end of a log in which values of secrets are looked for."""
LOG_LINES, LOG_LINE, LOG_TEXT = 20, 200, 2000
"""How much of a log a message has: lines, characters of each, and characters in all."""
LEFT_OUT = "(the log is left out: the values of the job's secrets are not known here)"


class Undelivered(NamedTuple):
    """A notification of a job."""

    job: str
    uid: str
    notice: Notice


class JobGoneError(AirExecutorError):
    """The job of a notification does not exist any more."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How notifications of one state directory are delivered."""

    layout: Layout
    secrets_dir: str | None = None
    secrets_known: bool = True
    """False: the platform resolves secrets, so what a log shows of them cannot be recognized."""
    page: str | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def __call__(self, one: Undelivered) -> None:
        """Deliver a notification.

        Raises:
            JobGoneError: its job was deleted.
            AirExecutorError: it was not delivered; the message says why.
        """
        url = Targets(self.secrets_dir, self.environ).url(one.notice.to)
        job = Jobs(self.layout).find(one.job, one.uid)
        if job is None:
            raise JobGoneError(one.job)
        scrubber, known = SecretScrubber(), True
        try:
            scrubber.learn(self._secrets(job))
        except (NotFoundError, StoreError):
            known = False
        log = "" if one.notice.on != FAILURE else self._log(job, scrubber) if known else LEFT_OUT
        message = message_of(job, one.notice, self.page, log)
        from air_executor.notify.sending import send  # noqa: PLC0415 - 70 ms, which a manager without targets is spared

        send(url, replace(message, text=scrubber.scrub(message.text)))

    def _secrets(self, job: JobState) -> dict[str, str]:
        names = {name for task in job.tasks.values() for name in task.secrets}
        if names and not self.secrets_known:
            raise NotFoundError(LEFT_OUT)
        return secret_values(sorted(names), self.secrets_dir, self.environ)

    def _log(self, job: JobState, scrubber: SecretScrubber) -> str:
        """Return the end of the log of the task that failed, as harmless text without the values of secrets."""
        task = failed_task(job)
        file = None if task is None else open_log(self.layout, job, task.id, task.attempts[-1].seq)
        if file is None:
            return ""
        with file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - READ))
            text = file.read(READ).decode("utf-8", "replace")
        # Before and after control sequences are gone: they may stand within a value.
        lines = [plain_log(line) for line in scrubber.scrub(text).split("\n")]
        text = scrubber.scrub("\n".join(lines).rstrip("\n"))
        shown = [
            line if len(line) <= LOG_LINE else f"{line[: LOG_LINE - 1]}…" for line in text.split("\n")[-LOG_LINES:]
        ]
        return "\n".join(shown)[-LOG_TEXT:]
