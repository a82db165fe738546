"""Commands that send requests to the manager: `cancel`, `pause`, `resume`, `retry`, `rerun` and `confirm-gone`.

Each writes a request file for each job and waits briefly for the answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from air_executor.cli.flags import JobArgument, given_choice
from air_executor.cli.session import Session, session_of
from air_executor.cli.terminal import error, note, print_json, say
from air_executor.errors import AirExecutorError, BadInputError, NotFoundError
from air_executor.model.checks import MOST_REPORTED
from air_executor.model.pairs import read_pairs

if TYPE_CHECKING:
    from air_executor.client.job_access import Answer, JobAccess
    from air_executor.model.records import Op

JobNames = Annotated[list[str] | None, typer.Argument(metavar="JOB…")]
JobOrTask = Annotated[
    list[str] | None,
    typer.Argument(metavar="JOB [TASK] | JOB…", help="A job, one of its tasks, or several jobs."),
]
TaskOption = Annotated[str | None, typer.Option("--task", metavar="TASK", help="Only this task of the job.")]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option("--budget", metavar="NAME=AMOUNT", help="New amount of the job's budget: usd=10. Repeatable."),
]

_PHASES = {
    "cancel": ("pending", "queued", "running", "paused"),
    "pause": ("queued", "running"),
    "resume": ("paused",),
    "retry": ("failed", "cancelled"),
}
"""Phases of the jobs that --label and --pool choose, by verb."""


def cancel(ctx: typer.Context, *, words: JobOrTask = None, task: TaskOption = None) -> None:
    """Cancel jobs, or one task of a job.

    Running tasks are stopped within their grace period; queued tasks never run. Clean-up tasks do: a second cancel of
    the job limits their time, and a third one ends them.
    """
    _ask_for(ctx, "cancel", words, task)


def pause(ctx: typer.Context, *, words: JobNames = None) -> None:
    """Pause jobs: running tasks finish, no new task starts."""
    _ask_all(ctx, "pause", _chosen(ctx, "pause", words))


def resume(ctx: typer.Context, *, words: JobNames = None, budget: BudgetOption = None) -> None:
    """Resume paused jobs."""
    _ask_all(ctx, "resume", _chosen(ctx, "resume", words), budget=_budget(budget or ()))


def retry(ctx: typer.Context, *, words: JobOrTask = None, task: TaskOption = None, budget: BudgetOption = None) -> None:
    """Retry failed, cancelled and skipped tasks.

    An ended job is reopened. Tasks that succeeded are not repeated.
    """
    _ask_for(ctx, "retry", words, task, budget=_budget(budget or ()))


def rerun(
    ctx: typer.Context,
    *,
    job: Annotated[str, typer.Argument(metavar="JOB")],
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="Default: all tasks of the job.")] = None,
    downstream: Annotated[bool, typer.Option("--downstream", help="Also the tasks that depend on TASK.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Field of TASK: timeout=2h, env.DEBUG=1. Repeatable."),
    ] = None,
) -> None:
    """Run tasks again in the same job, also those that succeeded.

    Earlier runs stay in the job. What a task queued before is superseded by what it queues now. An ended job is
    reopened.
    """
    fields = _fields(set_ or ())
    _ask_all(ctx, "rerun", [job], task, downstream=downstream, fields=fields)


def _budget(pairs: Sequence[str]) -> dict[str, float]:
    """Return the amounts of a budget as typed."""
    form = "NAME=AMOUNT with an amount greater than 0"
    found = {}
    for name, value in read_pairs(pairs, "--budget", form).items():
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = 0.0
        if not 0 < found[name] <= MOST_REPORTED:
            msg = f"--budget: must be {form}, got {f'{name}={value}'!r}"
            raise BadInputError(msg)
    return found


def _fields(pairs: Sequence[str]) -> dict[str, Any]:
    """Return fields as typed: JSON where a value is JSON, else text."""
    found: dict[str, Any] = {}
    for name, value in read_pairs(pairs, "--set", "FIELD=VALUE").items():
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def confirm_gone(ctx: typer.Context, job: JobArgument) -> None:
    """Confirm that a job's unreachable runners have ended.

    Use it only when you are sure, for example after the node was lost: Air-Executor then starts the tasks again.
    """
    _ask_all(ctx, "confirm-gone", [job])


def _ask_for(ctx: typer.Context, op: Op, words: list[str] | None, task: str | None, **options: Any) -> None:  # noqa: ANN401 - as for `Client.ask`
    """Ask about jobs, or about a task of one."""
    jobs = _chosen(ctx, op, words)
    if task is None and len(jobs) == 2 and words and _is_task(session_of(ctx).client(), *jobs):  # noqa: PLR2004 - a pair
        *jobs, task = jobs
    if task is not None and len(jobs) != 1:
        msg = f"--task: {task} is a task of one job, got {len(jobs)} jobs"
        raise BadInputError(msg)
    _ask_all(ctx, op, jobs, task, **options)


def _is_task(client: JobAccess, job: str, word: str) -> bool:
    """Tell whether the second of two words is a task of the first; it is a job otherwise.

    Raises:
        BadInputError: it is both.
    """
    state = client.status(job)
    try:
        client.status(word)
    except (NotFoundError, BadInputError):
        return True
    if word in state.tasks:
        msg = f"{word} is a job, and a task of job {job}; for the task, use `{job} --task {word}`"
        raise BadInputError(msg)
    return False


def _chosen(ctx: typer.Context, op: Op, words: list[str] | None) -> list[str]:
    choice = given_choice(ctx)
    if not choice.chooses:
        if not words:
            msg = f"{op}: give the id of a job, --label or --pool"
            raise BadInputError(msg)
        return list(dict.fromkeys(words))
    if words:
        raise BadInputError("--label and --pool choose the jobs; leave out the ids")
    found = [
        job.id
        for job in session_of(ctx).client().summaries()
        if not isinstance(job, tuple) and job.phase in _PHASES[op] and choice.takes(job)
    ]
    if not found:
        msg = f"no jobs match that are {', '.join(_PHASES[op])}"
        raise NotFoundError(msg)
    return found


def _ask_all(ctx: typer.Context, op: Op, jobs: Sequence[str], task: str | None = None, **options: Any) -> None:  # noqa: ANN401 - as for `Client.ask`
    """Ask about each job. One that is refused stops none of the others."""
    session = session_of(ctx)
    client = session.client()
    answers: list[tuple[str, Answer]] = []
    failed: AirExecutorError | None = None
    for job in jobs:
        try:
            answers.append((job, client.ask(op, job, task, **options)))
        except AirExecutorError as problem:
            if len(jobs) == 1:
                raise
            error(str(problem))
            failed = failed or problem
    print_answers(session, op, answers)
    if failed is not None:
        raise typer.Exit(failed.exit_code)


def print_answers(session: Session, op: Op, answers: Sequence[tuple[str, Answer]]) -> None:
    """Print the answers to a request about jobs."""
    if session.json:
        records = [{"request": answer.request, "applied": answer.applied} for _, answer in answers]
        print_json(records[0] if len(records) == 1 else {"requests": records})
    else:
        for job, answer in answers:
            if answer.applied:
                say(f"{op} {job}: done")
    waiting = [job for job, answer in answers if not answer.applied]
    if not waiting:
        return
    client, place = session.client(), session.place_options
    presence = client.presence()
    ids = [answer.job for _, answer in answers if not answer.applied and presence.only]
    passed_over = [job for job in ids if presence.passes_over(job, client.status(job).submitted_by)]
    if passed_over:
        only = f"the running manager handles only {', '.join(presence.only or ())}"
        run = f"air-executor{place} run {passed_over[0]}"
        note(f"Queued: {only}; it applies when another one starts, or with `{run}`")
    elif presence.running is False:
        run = f", or `air-executor{place} run {waiting[0]}`" if len(waiting) == 1 else ""
        note(f"Queued: no manager is running; it applies when one starts (`{session.start_command()}`{run})")
    else:
        look = f"air-executor{place} status {waiting[0]}"
        note(f"Queued: the manager has not answered yet; `{look}` shows what it does")
