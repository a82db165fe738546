"""Makes the event that gives a task its fields once the results that they refer to are known.

The scheduler asks when the task could start. Reads nothing but the job's state, so no runner is started for it.
"""

from __future__ import annotations

from air_executor.core.late_fields import TooManyTasksError, is_list, resolve
from air_executor.core.templates import TooLargeError
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.queued_work import MAX_COST
from air_executor.model import state as s
from air_executor.model.events import Resolved
from air_executor.model.problems import InvalidError, lines
from air_executor.model.state import JobState, TaskState
from air_executor.model.types import fit
from air_executor.store.jobs import MAX_GROWN


def resolution(state: ManagerState, job: JobState, task: TaskState, now: float) -> Resolved:
    """Return what a task comes to: itself with its fields, the tasks of its list, or why neither can be."""
    room = min(MAX_COST, MAX_GROWN - state.size_of(job.id))
    try:
        return Resolved(now, task.id, resolve(job, task, room))
    except InvalidError as error:
        return Resolved(now, task.id, reason=s.REJECTED, message=fit("; ".join(lines(error.problems))))
    except TooManyTasksError:
        what = f"its list would give the job more than max_tasks = {job.spec.max_tasks}"
    except TooLargeError:
        what = f"{'its list' if is_list(task) else 'what it refers to'} is too large for the state of job {job.id}"
    return Resolved(now, task.id, reason=s.BUDGET, message=f"task {task.id}: {what}")
