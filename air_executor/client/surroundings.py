"""What an explanation of a job has to know of the jobs and the manager around it, wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from air_executor.core.explanation import ExplainContext, RunnerFacts
from air_executor.core.job_facts import AllJobs, JobFacts
from air_executor.model.state import JobState, RunnerOrigin, Running
from air_executor.store.presence import Presence, start_command

if TYPE_CHECKING:
    from air_executor.settings import ReaderSettings

ArchivedPhase = Callable[[str, str], str | None]
"""Takes id and uid of a job; see `JobAccess.archived_phase`."""


def explain_context(
    job: JobState,
    jobs: Iterable[JobFacts] | AllJobs,
    now: float,
    settings: ReaderSettings | None,
    *,
    manager: Presence,
    archived_phase: ArchivedPhase,
    runners: dict[str, RunnerFacts],
) -> ExplainContext:
    """Return the surroundings of a job for `explain_job` and `explain_task`.

    `jobs` are all jobs that are not archived, as `job_facts` yields them. Limits are those of the running manager, or
    else of `settings`.
    """
    if job.ended:
        return ExplainContext(now)
    every = jobs if isinstance(jobs, AllJobs) else AllJobs(jobs)
    stopped = manager.running is False
    pools = manager.pools if manager.pools is not None or settings is None else settings.pools
    most = manager.max_runners if manager.max_runners is not None or settings is None else settings.max_runners
    return ExplainContext(
        now,
        manager=manager.running,
        start_command=start_command(),
        only_jobs=(manager.only or ()) if manager.passes_over(job.id, job.submitted_by) else (),
        after=_phases_after(job, every, archived_phase),
        running=every.running,
        max_runners=most,
        in_use=every.in_use,
        pools=pools or {},
        reserved=manager.reserved,
        lock_holder=None if job.spec.lock is None else every.holders.get(job.spec.lock),
        backend=(None if settings is None else settings.backend) if stopped else manager.backend,
        host=None if stopped else manager.record.get("host"),
        boot=None if stopped else manager.record.get("boot"),
        backend_problem=manager.backend_problem,
        waiting=manager.waiting.get(job.id),
        runners=runners,
    )


def _phases_after(job: JobState, jobs: AllJobs, archived_phase: ArchivedPhase) -> dict[str, str]:
    """Return the phases of the jobs that a job waits for or joins, archived or not, but those that are gone."""
    phases = {}
    named = job.earlier_runs | (job.after_uids if job.started_at is None else {})
    joined = {task.id: task.joins for task in job.tasks.values() if task.joins and not task.finished_at}
    for name, uid in (named | joined).items():
        phase = jobs.phase(name, uid) or archived_phase(name, uid)
        if phase is not None:
            phases[name] = phase
    return phases


def runner_facts(
    job: JobState,
    earlier_origin: Callable[[int, str], RunnerOrigin | None] | None = None,
    has_begun: Callable[[int, str], bool] | None = None,
    has_ended: Callable[[int, str], bool] | None = None,
) -> dict[str, RunnerFacts]:
    """Return backend, host and runner of a job's running tasks, by task id, as far as they are known.

    By run and task, `earlier_origin` finds what a state of an earlier version does not have, and `has_begun` tells
    whether the command has started, which takes time on a platform, `has_ended` whether that of a local run has ended.
    """
    found = {}
    for task in job.tasks.values():
        if not isinstance(task.status, Running):
            continue
        origin = task.status.origin
        if origin is None and earlier_origin is not None:
            origin = earlier_origin(task.status.seq, task.id)
        if origin is not None and origin.backend is not None:
            begun = has_begun is None or origin.backend == "local" or has_begun(task.status.seq, task.id)
            ended = has_ended is not None and origin.backend == "local" and has_ended(task.status.seq, task.id)
            found[task.id] = RunnerFacts(origin.backend, str(origin.host), origin.runner, origin.boot, begun, ended)
    return found
