"""Which job belongs to a task instance of Airflow: attach to the one that is there, or submit the next.

Called by operators and triggers. Airflow's number of the try is not part of a job's id: when a worker is lost Airflow
raises it while the job still runs. Generations of our own are, and each is submitted once, because an id can be taken
only once. Knows nothing of Airflow.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from typing import Any, NamedTuple

from air_executor.airflow.labels import TaskInstanceLabels
from air_executor.airflow.notes import JobRef, Notes, notes_on
from air_executor.client import Client
from air_executor.errors import AlreadyExistsError, NotFoundError
from air_executor.model.job import Job
from air_executor.model.records import Request
from air_executor.model.state import CANCELLED, SUCCEEDED, JobState

_IN_ENV = {"dag": "DAG_ID", "run": "DAG_RUN_ID", "task": "TASK_ID", "map-index": "MAP_INDEX"}
"""As Airflow's own operators name them; the index of a mapped task is ours."""
_TRY, _LIMIT, _UUID = "airflow-try", "airflow-max-tries", "airflow-ti"


def stem_of(instance: TaskInstanceLabels) -> str:
    """Return what the ids of all jobs of a task instance begin with."""
    return f"af-{hashlib.sha256(json.dumps(instance).encode()).hexdigest()[:24]}"


def job_id(instance: TaskInstanceLabels, generation: int) -> str:
    """Return the id of one generation of its jobs; always the same."""
    return f"{stem_of(instance)}-{generation}"


class TaskTry(NamedTuple):
    """One try of a task instance, as whoever executes it knows it."""

    number: int
    max_tries: int | None
    """Airflow changes it when somebody clears the task, and only then. The triggerer does not know it."""
    uuid: str
    """Airflow's name of this try; before 3.0, which has none, when it began."""

    def is_same_as(self, other: TaskTry) -> bool:
        """Tell whether both are the same try, asked for again after a restart.

        Who clears a task gives it its next UUID at once and its next number a moment later. A triggerer that meets it
        in between is not the try that comes, and is told to stop.
        """
        return (self.uuid, self.number) == (other.uuid, other.number)

    def follows_clear(self, before: TaskTry) -> bool:
        """Tell whether somebody cleared the task since, or made its run anew: this try is no retry of that one."""
        if self.is_same_as(before):
            return False
        if self.max_tries is None or before.max_tries is None:
            return True
        return self.max_tries != before.max_tries or self.number <= before.number

    def labels(self) -> dict[str, str]:
        """Return what a job keeps of the try that submitted it."""
        kept = {_TRY: str(self.number), _LIMIT: self.max_tries, _UUID: self.uuid}
        return {name: str(value) for name, value in kept.items() if value is not None}


def submitted_by(state: JobState) -> TaskTry:
    """Return the try that submitted a job."""
    labels = state.spec.labels
    limit = labels.get(_LIMIT)
    return TaskTry(int(labels.get(_TRY, "1")), None if limit is None else int(limit), labels.get(_UUID, ""))


class AttachedJob(NamedTuple):
    """The job of a try."""

    state: JobState
    attached: bool
    """It was there before."""

    @property
    def ref(self) -> JobRef:
        """Which job it is."""
        return ref_of(self.state)


class JobAttacher(NamedTuple):
    """Where one try of a task instance gets its job."""

    client: Client
    instance: TaskInstanceLabels
    now: TaskTry
    durable: bool = True
    """Attach to what an earlier try left at work; otherwise that is cancelled first."""
    cancel_on_kill: bool = True
    """What was cleared is cancelled; otherwise it is attached to, as after the loss of a worker."""

    def take(self, job: Job) -> AttachedJob | None:
        """Return the job of this try, or None while one of an earlier try has yet to end: ask again.

        One that is at work is attached to. One that has ended is handed over to the try that asked for it, however it
        ended, and its success to a retry. After a failure, a clear, or where it shall go, comes the next generation,
        never before the last one has ended. The fields of `job` are used for a new generation only, its id never.

        Raises: as `Client.submit` and `Client.status`.
        """
        notes = Notes(self.client, stem_of(self.instance))
        generation = notes.read("generation") or 1  # not always from 1: what `prune` has removed leaves holes
        while True:
            name = job_id(self.instance, generation)
            try:
                state = self.client.status(name)
            except NotFoundError:
                try:
                    return AttachedJob(self.client.submit(self._mine(job, name)), attached=False)
                except AlreadyExistsError:  # another one was faster: look what it submitted
                    continue
            if self._is_mine(state):
                return AttachedJob(state, attached=True)
            if not state.ended:
                return None
            generation += 1
            notes.write("generation", generation)

    def _is_mine(self, state: JobState) -> bool:
        notes = notes_on(self.client, ref_of(state))
        return self._may_deliver(state, notes) if state.ended else self._may_attach(state, notes)

    def abandon_mine(self) -> None:
        """Cancel the job that this try submitted or would attach to, if there is one."""
        generation = Notes(self.client, stem_of(self.instance)).read("generation") or 1
        try:
            state = self.client.status(job_id(self.instance, generation))
        except NotFoundError:
            return
        if not state.ended:
            abandon(self.client, ref_of(state))

    def _may_deliver(self, state: JobState, notes: Notes) -> bool:
        before = _as_try(notes.read("delivered")) or submitted_by(state)
        if self.now.is_same_as(before):
            return True
        return state.phase == SUCCEEDED and not self.now.follows_clear(before)

    def _may_attach(self, state: JobState, notes: Notes) -> bool:
        before = submitted_by(state)
        if state.stop == CANCELLED or notes.read("abandoned"):
            return False
        if self.now.is_same_as(before):
            return True
        unwanted = self.cancel_on_kill if self.now.follows_clear(before) else not self.durable
        if unwanted:
            abandon(self.client, ref_of(state))
        return not unwanted

    def _mine(self, job: Job, name: str) -> Job:
        own = {name: value for name, value in job.labels.items() if not name.startswith("airflow-")}
        labels = {**self.instance.labels(), **self.now.labels()}
        env = {f"AIRFLOW_CTX_{_IN_ENV[fact]}": value for fact, value in self.instance.facts().items()}
        defaults = replace(job.defaults, env={**env, **job.defaults.env})
        tasks = [replace(task, env={**env, **task.env}) for task in job.tasks]
        return replace(job, id=name, labels={**own, **labels}, defaults=defaults, tasks=tasks)

    def deliver(self, state: JobState) -> None:
        """Note that this try is about to tell Airflow how the job ended.

        Whoever asks again for the same try, because Airflow never heard, gets the same job; so does a retry after a
        lost worker. A task that was cleared gets the next generation.

        Raises:
            StoreError: the volume refused.
        """
        notes_on(self.client, ref_of(state)).write("delivered", list(self.now))


def abandon(client: Client, job: JobRef) -> None:
    """Cancel a job for good: no try attaches to it any more, even while no manager is there to stop it.

    Raises:
        StoreError: the volume refused.
    """
    client.inbox.post(Request("cancel", job.id), time.time())
    notes_on(client, job).write("abandoned", value=True)


def ref_of(state: JobState) -> JobRef:
    """Return which job this is the state of."""
    return JobRef(state.id, state.uid)


def _as_try(found: Any) -> TaskTry | None:
    return TaskTry(*found) if isinstance(found, list) and len(found) == len(TaskTry._fields) else None
