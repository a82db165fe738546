"""Starts a program beside a task, in the container of its run. Called by `wiring` for `air-executor shell`."""

from __future__ import annotations

from collections.abc import Sequence

from air_executor.backends.container.refusals import RefusedError
from air_executor.backends.container.remote_process import RemoteProcess, shell_words
from air_executor.backends.docker.container_spec import LABELS, SERVICE
from air_executor.backends.docker.engine import Engine
from air_executor.errors import BadInputError, NotFoundError
from air_executor.settings import Settings


def open_shell(settings: Settings, run: str, command: Sequence[str], *, tty: bool) -> RemoteProcess:
    """Start a command, or else a shell, in the container of a run.

    Raises:
        NotFoundError: the run has no running container on this engine.
        BadInputError: the engine refuses to start it.
        BackendUnavailableError: the engine does not answer.
    """
    engine = Engine(settings.docker.timeout)
    try:
        return _open(engine, run, command, tty=tty)
    except BaseException:
        engine.close()
        raise


def _open(engine: Engine, run: str, command: Sequence[str], *, tty: bool) -> RemoteProcess:
    listed = engine.list(f"{LABELS.key('run')}={run}")
    found = [one["Id"] for one in listed if one["State"] == "running" and SERVICE not in one["Labels"]]
    if not found:
        msg = f"run {run} has no running container on this Docker engine; it has just ended, or DOCKER_HOST is another"
        raise NotFoundError(msg)
    try:
        config = engine.inspect(found[0])["Config"]
        words = shell_words([*config["Entrypoint"], *config["Cmd"]], command)
        return engine.execute(found[0], words, tty=tty)
    except RefusedError as error:
        msg = f"container {found[0][:12]}: {error}"
        raise BadInputError(msg) from error
