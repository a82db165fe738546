"""The tasks that one request adds to a job, checked piece by piece: they may be a million.

The request handler counts them with `check_room` before anybody looks at one, goes on with `check` each cycle, and asks
for `complete` in the cycle that decides: only then do ids and `after` mean something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from air_executor.core.job_checks import complete_added
from air_executor.core.queue_lines import task_from_request
from air_executor.errors import BadInputError
from air_executor.manager.queued_work import MAX_COST
from air_executor.model.defaults import Defaults
from air_executor.model.job import Task
from air_executor.model.records import Request
from air_executor.model.state import JobState
from air_executor.model.steps import STEP
from air_executor.store.jobs import MAX_GROWN


class Addition:
    """A request that adds tasks, as far as it is checked."""

    def __init__(self, name: str, request: Request, job: JobState) -> None:
        self.name = name
        self.request = request
        self.uid = job.uid
        """Of the job by whose defaults the tasks are checked."""
        self._tasks: list[Task] = []
        self._work = self._check(Defaults(job.spec.defaults))

    def _check(self, defaults: Defaults) -> Iterator[None]:
        for number, raw in enumerate(self.request.tasks, 1):
            self._tasks.append(task_from_request(raw, defaults))
            if number % STEP == 0:
                yield

    def check(self, has_time: Callable[[], bool]) -> bool:
        """Go on for one step, and further while there is time; True: all tasks are checked.

        Raises:
            BadInputError: one of them is wrong.
        """
        return all(has_time() for _ in self._work)

    def complete(self, job: JobState) -> list[Task]:
        """Return the tasks, each with its id in the job as it is now.

        Raises:
            BadInputError: they do not fit into it.
        """
        complete_added(self._tasks, job.tasks, job.id)
        return self._tasks


def check_room(count: int, size: int, job: JobState, grown: int) -> None:
    """Refuse tasks that a job has no room for, before anybody looks at each of them.

    `size`: bytes of the request that adds them; `grown`: of the job's state.

    Raises:
        BadInputError: there would be too many tasks, or the job would be too large to be read again.
    """
    if count == 0:
        raise BadInputError("add: no task given")
    limit = job.spec.max_tasks
    if len(job.tasks) + count > limit:
        msg = f"job {job.id} has {len(job.tasks)} tasks, and max_tasks = {limit}"
        raise BadInputError(msg)
    if size > MAX_COST or grown + size > MAX_GROWN:
        msg = f"the tasks come to {size / 1e6:.0f} MB, which is too much for job {job.id}"
        raise BadInputError(msg)
