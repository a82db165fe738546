"""Choose the job of a task instance: attach to one that exists, or submit the next.

Called by operators and triggers. Airflow's try number is not part of a job's id, because Airflow raises it when a
worker is lost, while the job still runs. Instead each task instance has generations of jobs. A generation is submitted
once, because an id can be taken only once. Knows nothing of Airflow.
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

_VARIABLES = {"dag": "DAG_ID", "run": "DAG_RUN_ID", "task": "TASK_ID", "map-index": "MAP_INDEX"}
"""The end of each environment variable, as in Airflow's own operators; the map index is an addition."""
_NUMBER_LABEL, _MAX_TRIES_LABEL, _UUID_LABEL = "airflow-try", "airflow-max-tries", "airflow-ti"


def id_prefix(instance: TaskInstanceLabels) -> str:
    """Return the start of the ids of all jobs of a task instance."""
    return f"af-{hashlib.sha256(json.dumps(instance).encode()).hexdigest()[:24]}"


def job_id(instance: TaskInstanceLabels, generation: int) -> str:
    """Return the id of one generation of a task instance's jobs; always the same."""
    return f"{id_prefix(instance)}-{generation}"


class TaskTry(NamedTuple):
    """One try of a task instance, as seen by the worker or triggerer that executes it."""

    number: int
    max_tries: int | None
    """Changes when a person clears the task, and only then. None: the triggerer does not know it."""
    uuid: str
    """Airflow's id of this try; before 3.0, which has none, the time of its start."""

    def is_same_as(self, other: TaskTry) -> bool:
        """Tell whether both are the same try, seen again after a restart.

        A clear changes the UUID at once and the number a moment later. A triggerer that reads the task instance in
        between belongs to neither try, and Airflow stops it.
        """
        return (self.uuid, self.number) == (other.uuid, other.number)

    def follows_clear(self, earlier: TaskTry) -> bool:
        """Tell whether the task was cleared or its DAG run created again since the earlier try: this is no retry."""
        if self.is_same_as(earlier):
            return False
        if self.max_tries is None or earlier.max_tries is None:
            return True
        return self.max_tries != earlier.max_tries or self.number <= earlier.number

    def labels(self) -> dict[str, str]:
        """Return the labels by which a job names the try that submitted it."""
        values = {_NUMBER_LABEL: str(self.number), _MAX_TRIES_LABEL: self.max_tries, _UUID_LABEL: self.uuid}
        return {name: str(value) for name, value in values.items() if value is not None}


def submitted_by(state: JobState) -> TaskTry:
    """Return the try that submitted a job."""
    labels = state.spec.labels
    max_tries = labels.get(_MAX_TRIES_LABEL)
    number = int(labels.get(_NUMBER_LABEL, "1"))
    return TaskTry(number, None if max_tries is None else int(max_tries), labels.get(_UUID_LABEL, ""))


class AttachedJob(NamedTuple):
    """The job of a try."""

    state: JobState
    existed: bool
    """False: this try has just submitted it."""

    @property
    def ref(self) -> JobRef:
        """The job's id and uid."""
        return ref_of(self.state)


class JobAttacher(NamedTuple):
    """One try of a task instance, looking for its job in a state directory."""

    client: Client
    instance: TaskInstanceLabels
    this_try: TaskTry
    durable: bool = True
    """Attach to a job that an earlier try left running; otherwise cancel that job first."""
    cancel_on_kill: bool = True
    """Cancel the job of a task that was cleared; otherwise attach to it, as after the loss of a worker."""

    def attach(self, job: Job) -> AttachedJob | None:
        """Return the job of this try; None while a job of an earlier try has yet to end: call again.

        A running job is attached to. A job that has ended belongs to the try that asked for it, however it ended, and
        its success also to a retry. After a failure, a clear or a cancellation the next generation is submitted, never
        before the last one has ended. `job` is used for a new generation only; its id never is.

        Raises: as `Client.submit` and `Client.status`.
        """
        notes = Notes(self.client, id_prefix(self.instance))
        generation = notes.read("generation") or 1  # noted, because generations that were pruned leave gaps
        while True:
            name = job_id(self.instance, generation)
            try:
                state = self.client.status(name)
            except NotFoundError:
                try:
                    return AttachedJob(self.client.submit(self._named(job, name)), existed=False)
                except AlreadyExistsError:  # another process was faster: look at the job that it submitted
                    continue
            if self._belongs_to_this_try(state):
                return AttachedJob(state, existed=True)
            if not state.ended:
                return None
            generation += 1
            notes.write("generation", generation)

    def cancel(self) -> None:
        """Cancel the job that this try submitted or would attach to, if there is one."""
        generation = Notes(self.client, id_prefix(self.instance)).read("generation") or 1
        try:
            state = self.client.status(job_id(self.instance, generation))
        except NotFoundError:
            return
        if not state.ended:
            abandon(self.client, ref_of(state))

    def set_delivered(self, state: JobState) -> None:
        """Note that this try is about to tell Airflow how the job ended.

        The same try gets the same job again, in case Airflow never received the end; so does a retry after a lost
        worker. A task that was cleared gets the next generation.

        Raises:
            StoreError: the volume refused.
        """
        notes_on(self.client, ref_of(state)).write("delivered", list(self.this_try))

    def _belongs_to_this_try(self, state: JobState) -> bool:
        notes = notes_on(self.client, ref_of(state))
        return self._may_deliver(state, notes) if state.ended else self._may_attach(state, notes)

    def _may_deliver(self, state: JobState, notes: Notes) -> bool:
        earlier = _to_try(notes.read("delivered")) or submitted_by(state)
        if self.this_try.is_same_as(earlier):
            return True
        return state.phase == SUCCEEDED and not self.this_try.follows_clear(earlier)

    def _may_attach(self, state: JobState, notes: Notes) -> bool:
        earlier = submitted_by(state)
        if state.stop == CANCELLED or notes.read("abandoned"):
            return False
        if self.this_try.is_same_as(earlier):
            return True
        unwanted = self.cancel_on_kill if self.this_try.follows_clear(earlier) else not self.durable
        if unwanted:
            abandon(self.client, ref_of(state))
        return not unwanted

    def _named(self, job: Job, name: str) -> Job:
        """Return the job with its id, and with labels and variables that name the task instance."""
        own = {name: value for name, value in job.labels.items() if not name.startswith("airflow-")}
        labels = {**self.instance.labels(), **self.this_try.labels()}
        env = {f"AIRFLOW_CTX_{_VARIABLES[fact]}": value for fact, value in self.instance.facts().items()}
        defaults = replace(job.defaults, env={**env, **job.defaults.env})
        return replace(job, id=name, labels={**own, **labels}, defaults=defaults)


def abandon(client: Client, job: JobRef) -> None:
    """Cancel a job and note that no try attaches to it any more, even if no manager is running to cancel it.

    Raises:
        StoreError: the volume refused.
    """
    client.inbox.post(Request("cancel", job.id), time.time())
    notes_on(client, job).write("abandoned", value=True)


def ref_of(state: JobState) -> JobRef:
    """Return the id and uid of the job with this state."""
    return JobRef(state.id, state.uid)


def _to_try(note: Any) -> TaskTry | None:
    return TaskTry(*note) if isinstance(note, list) and len(note) == len(TaskTry._fields) else None
