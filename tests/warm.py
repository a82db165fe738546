"""What `tests.forked` does once, in the process that it forks: what every command would do again."""

from __future__ import annotations

import gc

import rich.live
import rich.table  # noqa: F401 - imported before the fork, as the module above

from air_executor.model import parsing
from air_executor.model.events import JournalLine
from air_executor.model.job import Job, JobSpec, Task
from air_executor.model.records import CountersRecord, OutcomeFile, Request
from air_executor.model.state import JobState, TaskState

for given in (Job, Task):
    parsing.adapter(given)
for record in (CountersRecord, JobSpec, JobState, JournalLine, OutcomeFile, Request, TaskState):
    parsing.stored(record)
gc.collect()
gc.freeze()
