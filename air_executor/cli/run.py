"""`air-executor run`: run one job to completion with a manager of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from air_executor.cli import job_input
from air_executor.cli.ended_runs import already_ended
from air_executor.cli.flags import BackendOption
from air_executor.cli.live_view import LiveView
from air_executor.cli.prune import archive_ended
from air_executor.cli.session import Session, command_given, session_of
from air_executor.cli.signals import SHOW_CURSOR, handling
from air_executor.cli.terminal import note, print_json, steady_stdout
from air_executor.cli.wait import TIMED_OUT
from air_executor.errors import BadInputError, CorruptFileError, ManagerHeldError, NotFoundError, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from air_executor.client import Client
    from air_executor.client.job_access import JobAccess
    from air_executor.manager.loop import Manager
    from air_executor.model.state import JobState
    from air_executor.settings import Settings
    from air_executor.store.presence import Presence

LOOK_EVERY = 0.25
"""Seconds between two reads of the state while another manager runs the job."""
TRY_EVERY = 1.0
"""Seconds between two attempts to take over the state directory."""
INTERRUPTED = 130
TERMINATED = 143


def run(
    ctx: typer.Context,
    *,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE | ID -- COMMAND… | JOB", help=f"{job_input.WORDS_HELP} Or the id of an existing job."
        ),
    ],
    replace: job_input.Replace = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Continue what failed in the newest run of the name or file.")
    ] = False,
    backend: BackendOption = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only the output of the last task, and failures.")
    ] = False,
) -> None:
    """Run a job to completion and print its cost.

    Shows the output of its tasks. Manages only this job and the jobs it submits. Exits with 0 if all succeeded, else
    with 1; a job of a single task exits with the exit code of its command. Ctrl-C stops the runners and pauses the job;
    a second Ctrl-C exits immediately.
    """
    session = session_of(ctx)
    if session.server_address is not None:
        from air_executor.cli.followed_run import run_on_server  # noqa: PLC0415 - only for servers

        raise typer.Exit(run_on_server(ctx, words, replace=replace, retry=retry, backend=backend, quiet=quiet))
    from air_executor.wiring import check_backend, reach_backend  # noqa: PLC0415

    settings = session.settings(backend=backend)
    client = session.directory()
    # Before submitting: a wrong setting must not leave a job behind that occupies the id.
    if client.presence().running:
        check_backend(settings)  # the running manager uses its own backend
    else:
        reach_backend(settings)
    if retry:
        states = [_retry(client, job_input.key_of(ctx, words))]
    elif not replace and names_job(ctx, client, words):
        states = [_resume(client, words[0])]
    else:
        jobs = job_input.read_jobs(ctx, words)
        job_input.warn_of(jobs, settings.pools)
        if replace:
            archive_ended(session, [job.id for job in jobs if job.id is not None], settings)
        states = client.submit_all(jobs)
    with steady_stdout():
        code = RunCommand(session, settings, client, states, backend=backend, quiet=quiet).complete()
    raise typer.Exit(code)


def names_job(ctx: typer.Context, client: JobAccess, words: Sequence[str]) -> bool:
    """Tell whether the arguments are the id of an existing job."""
    if len(words) != 1 or command_given(ctx) or job_input.names_path(words[0]):
        return False
    try:
        client.status(words[0])
    except NotFoundError:
        return False
    return True


def _resume(client: Client, job: str) -> JobState:
    from air_executor.model.records import Request  # noqa: PLC0415 - see the module

    state = client.status(job)
    if state.phase == "paused":
        client.inbox.post(Request("resume", state.id), time.time())
    return state


def _retry(client: Client, name: str) -> JobState:
    """Ask for a retry of the newest run if it has failed; one that has not ended goes on as it is."""
    from air_executor.model.records import Request  # noqa: PLC0415 - see the module

    state = _resume(client, name)
    if state.phase in ("failed", "cancelled"):
        client.inbox.post(Request("retry", state.id), time.time())
    return state


class RunCommand:
    """One job, or those of one file, from submission to their end."""

    def __init__(
        self,
        session: Session,
        settings: Settings,
        client: Client,
        states: Sequence[JobState],
        *,
        backend: str | None,
        quiet: bool,
    ) -> None:
        """`backend`: the one that the user named."""
        self._session = session
        self._quiet = quiet
        self._backend = backend
        self._settings = settings
        self._client = client
        self._id = states[0].id
        self._uids = {state.id: state.uid for state in states}
        self._scope = set(self._uids)
        self._manager: Manager | None = None
        self._interrupted = 0
        self._terminated = False
        # Inside a task, SIGTERM ends that task, and none of its processes may outlive it.
        self._nested = bool(os.environ.get("AIR_RUN_ID"))
        self._follower = LiveView(client.logs, states, quiet=quiet or session.json)

    def complete(self) -> int:
        """Run the job to its end, print the summary, and return the exit code."""
        with (
            handling(signal.SIGINT, self._on_interrupt),
            handling(signal.SIGTERM, self._on_terminate),
            handling(signal.SIGHUP, self._on_terminate),
            self._follower,
        ):
            self._work()
        from air_executor.cli.summary import NextOptions, summarise, to_continue  # noqa: PLC0415 - at the end

        jobs = self._states()
        options = NextOptions(self._session.place_options, f" --backend {self._backend}" if self._backend else "")
        if self._session.json:
            from air_executor.store.json_output import job_record  # noqa: PLC0415

            records = [job_record(job) for job in jobs if job.id in self._uids]
            print_json(records[0] if len(self._uids) == 1 else records)
        else:
            shown, managed = self._follower.shown, self._client.presence().running
            summarise(
                self._client.logs, jobs, quiet=self._quiet, output_shown=shown, options=options, managed=bool(managed)
            )
        if not self._ended(jobs):
            for job in jobs:
                if not job.ended:
                    note(to_continue(job, options))
            return INTERRUPTED if self._interrupted else TERMINATED
        return exit_code(jobs)

    def _work(self) -> None:
        from air_executor.wiring import make_manager, serve_runs  # noqa: PLC0415

        if self._ended(self._states()) and not self._asked():
            note(already_ended(self._states()[0]))
        notified = False
        while not self._leaving() and (self._asked() or not self._ended(self._states())):
            manager = make_manager(self._settings, scope=self._scope)
            try:
                manager.start()
            except ManagerHeldError as error:
                if not notified:
                    note(
                        f"{error}"
                        if self._session.debug
                        else who_takes(self._client.presence(), self._id, self._session.start_command())
                    )
                notified = True
                self._watch_files()
                continue
            self._manager = manager
            self._pass_on()  # signals received while it started
            if self._id in manager.state.index.unmanaged:
                manager.close()
                raise CorruptFileError(manager.state.index.unmanaged[self._id])
            try:
                with serve_runs(self._settings):
                    manager.run(until=self._look)
            except ManagerHeldError:
                continue
            finally:
                self._manager = None
        self._follower.look(self._states())
        if notified and self._stops_runners():
            self._pause_by_request()

    def _look(self) -> bool:
        """Update the live view from the manager's thread; return whether all jobs have ended."""
        manager = self._manager
        if manager is None:
            return True
        if self._follower.due:
            jobs = [manager.state.index.open[name].state for name in self._names() if name in manager.state.index.open]
            if self._id in manager.state.index.open:
                waiting = manager.scheduler.waiting
                waits = [waiting[name] for name in self._names() if name in waiting]
                problem = manager.open_runs.backend_problem
                self._follower.look(jobs, waits if problem is None else [*waits, f"trying again: {problem}"])
        return not any(name in manager.state.index.open for name in self._scope) and not self._asked()

    def _watch_files(self) -> None:
        until = time.monotonic() + TRY_EVERY
        while time.monotonic() < until and not self._leaving():
            jobs = self._states()
            if self._follower.due:
                manager = self._client.presence()
                waits = [manager.waiting[name] for name in self._names() if name in manager.waiting]
                problem = manager.backend_problem
                self._follower.look(jobs, waits if problem is None else [*waits, problem])
            if self._ended(jobs):
                return
            time.sleep(LOOK_EVERY)

    def _names(self) -> list[str]:
        return [*self._uids, *sorted(self._scope - set(self._uids))]

    def _states(self) -> list[JobState]:
        found = []
        for name in self._names():
            with contextlib.suppress(NotFoundError):
                found.append(self._client.status(name, self._uids.get(name)))
        if not found:
            msg = f"job {self._id} no longer exists in {self._client.layout.root}"
            raise NotFoundError(msg)
        return found

    def _ended(self, jobs: list[JobState]) -> bool:
        return all(job.ended for job in jobs)

    def _asked(self) -> bool:
        """Return whether a request for the job is pending; it may reopen an ended job."""
        inbox = self._client.inbox
        for name in inbox.pending():
            with contextlib.suppress(StoreError):  # another user's
                request = inbox.read(name)
                if request is not None and request.job in self._scope and request.op != "wake":
                    return True
        return False

    def _leaving(self) -> bool:
        return self._terminated or self._interrupted > 0

    def _pause_by_request(self) -> None:
        """Request a pause of the jobs, and await it: the running manager belongs to another process."""
        for name in self._uids:
            with contextlib.suppress(BadInputError, NotFoundError):  # it has ended
                self._client.ask("pause", name)

    def _on_interrupt(self, *_: Any) -> None:  # noqa: ANN401 - signal and frame
        self._interrupted += 1
        if self._interrupted > 1:
            # Restore the cursor; the next manager recovers everything else. sys.stderr is captured by the live view.
            os.write(2, f"{SHOW_CURSOR}\n".encode() if os.isatty(2) else b"")
            os._exit(INTERRUPTED)
        self._follower.hint = "stopping; press Ctrl-C again to exit immediately"
        self._pass_on()

    def _on_terminate(self, *_: Any) -> None:  # noqa: ANN401 - signal and frame
        self._terminated = True
        self._pass_on()

    def _pass_on(self) -> None:
        """Pass received signals on to our manager, if it is running."""
        if self._manager is not None and self._leaving():
            self._manager.stop(runners=self._stops_runners(), pause=self._interrupted > 0)

    def _stops_runners(self) -> bool:
        return self._interrupted > 0 or (self._terminated and self._nested)


def who_takes(presence: Presence, job: str, start_command: str) -> str:
    """Return who runs a job, or what it waits for, while another manager has the state directory."""
    if not presence.only or not presence.passes_over(job, None):
        return f"the manager that is running here takes job {job} ({presence.who})"
    return (
        f"job {job} waits until `air-executor run` of job {presence.only[0]} has ended ({presence.who}); "
        f"where jobs are to run at once, start a manager first (`{start_command}`)"
    )


def exit_code(jobs: Sequence[JobState]) -> int:
    """Return the exit code of jobs that have ended: that of the command where there is only one."""
    if all(job.phase == "succeeded" for job in jobs):
        return 0
    tasks = [task for job in jobs for task in job.tasks.values()]
    if len(tasks) > 1:
        return 1
    if tasks[0].reason == "timeout":
        return TIMED_OUT
    return (tasks[0].reason in ("error", "oom") and tasks[0].exit_code) or 1
