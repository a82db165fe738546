"""`run` on a server: submits a job there, shows its output and progress until it ends, and passes on its outcome.

The server's manager runs the job, so nothing is lost when this program ends: Ctrl-C pauses the job, as without a
server, and a second one leaves at once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from air_executor.cli import job_input
from air_executor.cli.ended_runs import already_ended
from air_executor.cli.live_view import LiveView
from air_executor.cli.pace import Pace
from air_executor.cli.run import INTERRUPTED, TERMINATED, exit_code, names_job
from air_executor.cli.session import Session, session_of
from air_executor.cli.signals import SHOW_CURSOR, handling
from air_executor.cli.submit import submit_jobs
from air_executor.cli.terminal import note, print_json, steady_stdout
from air_executor.errors import AirExecutorError, BadInputError

if TYPE_CHECKING:
    import typer

    from air_executor.client.job_access import JobAccess
    from air_executor.model.state import JobState

LOOK_EVERY = 0.25
"""Seconds between two looks."""


def run_on_server(
    ctx: typer.Context, words: list[str], *, replace: bool, retry: bool, backend: str | None, quiet: bool
) -> int:
    """Run a job on the session's server to its end, and return the exit code."""
    session = session_of(ctx)
    client = session.client()
    if backend is not None:
        msg = f"--backend: {client.place} has a backend of its own"
        raise BadInputError(msg)
    if retry:
        states = [_retried(client, job_input.key_of(ctx, words))]
    elif not replace and names_job(ctx, client, words):
        states = [_resumed(client, words[0])]
    else:
        jobs = job_input.read_jobs(ctx, words)
        job_input.warn_of(jobs, client.presence().pools)
        states = [client.status(made.id, made.uid) for made in submit_jobs(session, jobs, replace=replace)]
    with steady_stdout():
        return FollowedRun(session, client, states, quiet=quiet).complete()


def _resumed(client: JobAccess, name: str) -> JobState:
    state = client.status(name)
    if state.phase == "paused":
        client.ask("resume", state.id)
        return client.status(state.id, state.uid)
    if state.ended:
        note(already_ended(state))
    return state


def _retried(client: JobAccess, name: str) -> JobState:
    state = client.status(name)
    if state.phase in ("failed", "cancelled"):
        client.ask("retry", state.id)
        return client.status(state.id, state.uid)
    return _resumed(client, name)


class FollowedRun:
    """One job, or those of one file, until their end."""

    def __init__(self, session: Session, client: JobAccess, states: Sequence[JobState], *, quiet: bool) -> None:
        self._session = session
        self._client = client
        self._quiet = quiet
        self._jobs = list(states)
        self._interrupted = 0
        self._terminated = False
        self._woken = threading.Event()
        self._view = LiveView(client.logs, states, quiet=quiet or session.json)

    def complete(self) -> int:
        """Follow the jobs to their end, print the summary, and return the exit code."""
        with (
            handling(signal.SIGINT, self._on_interrupt),
            handling(signal.SIGTERM, self._on_terminate),
            handling(signal.SIGHUP, self._on_terminate),
            self._view,
        ):
            self._follow()
        if self._interrupted:
            self._pause()
        from air_executor.cli.summary import NextOptions, to_continue  # noqa: PLC0415 - when there is something to sum up

        self._print()
        waiting = [job for job in self._jobs if not job.ended]
        for job in waiting:
            note(to_continue(job, NextOptions(self._session.place_options)))
        if not waiting:
            return exit_code(self._jobs)
        return INTERRUPTED if self._interrupted else TERMINATED

    def _follow(self) -> None:
        pace = Pace(LOOK_EVERY)
        while True:
            begun = time.monotonic()
            self._look()
            if self._interrupted or self._terminated or all(job.ended for job in self._jobs):
                return
            self._woken.wait(pace.pause(time.monotonic() - begun))

    def _look(self) -> None:
        self._jobs = [job if job.ended else self._client.status(job.id, job.uid) for job in self._jobs]
        if not self._view.due:
            return
        manager = self._client.presence()
        waits = [manager.waiting[job.id] for job in self._jobs if job.id in manager.waiting]
        problem = manager.backend_problem
        self._view.look(self._jobs, waits if problem is None else [*waits, problem])

    def _pause(self) -> None:
        for number, job in enumerate(self._jobs):
            if not job.ended:
                try:
                    self._client.ask("pause", job.id)
                    self._jobs[number] = self._client.status(job.id, job.uid)
                except AirExecutorError as error:
                    note(f"job {job.id} goes on: {error}")

    def _print(self) -> None:
        if self._session.json:
            from air_executor.store.json_output import job_record  # noqa: PLC0415

            records = [job_record(job) for job in self._jobs]
            print_json(records[0] if len(records) == 1 else records)
            return
        from air_executor.cli.summary import NextOptions, summarise  # noqa: PLC0415

        options = NextOptions(self._session.place_options)
        logs = self._client.logs
        summarise(logs, self._jobs, quiet=self._quiet, output_shown=self._view.shown, options=options)

    def _on_interrupt(self, *_: Any) -> None:  # noqa: ANN401 - signal and frame
        self._interrupted += 1
        if self._interrupted > 1:
            os.write(2, f"{SHOW_CURSOR}\n".encode() if os.isatty(2) else b"")
            os._exit(INTERRUPTED)
        self._view.hint = "pausing the job; press Ctrl-C again to exit immediately"
        self._woken.set()

    def _on_terminate(self, *_: Any) -> None:  # noqa: ANN401 - signal and frame
        self._terminated = True
        self._woken.set()
