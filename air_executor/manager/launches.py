"""From a task in the state to all that a backend needs to run it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from air_executor.backends.base import Launch
from air_executor.core.memory import resources_of
from air_executor.core.transitions import LiveJob
from air_executor.errors import CorruptFileError, SpawnRejectedError
from air_executor.model.names import Slot, run_id
from air_executor.model.state import JobState, Running, TaskState
from air_executor.store import files
from air_executor.store.layout import Layout

MAX_SECRET = 1024 * 1024


class Inputs:
    """The text of each job's `inputs.json`, so that a result is encoded once and not once per run that sees it."""

    def __init__(self) -> None:
        self._parts: dict[str, tuple[object, list[str]]] = {}
        """By job uid: the list of results that they were made from, and their text."""

    def text(self, job: LiveJob) -> bytes:
        """Return the results of all tasks that have succeeded and set one, as a JSON object by task id."""
        results = job.progress.results
        source, parts = self._parts.get(job.state.uid, (None, []))
        if source is not results:  # the job was indexed anew, and its results may be in another order
            parts = []
            self._parts[job.state.uid] = results, parts
        parts += [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in results[len(parts) :]]
        return f"{{{', '.join(parts)}}}\n".encode()

    def forget(self, uid: str) -> None:
        """Drop what is kept for a job that has ended."""
        self._parts.pop(uid, None)


def launch_of(  # noqa: PLR0917 - everything that a launch is made of
    layout: Layout,
    project: str,
    job: JobState,
    task: TaskState,
    run: Running,
    secrets_dir: str | None,
    *,
    epoch: int = 0,
    secrets_by_name: bool = False,
) -> Launch:
    """Return the launch of one run. With `secrets_by_name` the values of its secrets are left to the platform.

    Raises:
        SpawnRejectedError: a secret that the task names does not exist.
    """
    command = task.command
    name = run_id(job.uid, run.seq)
    env = dict(task.env)
    env |= {
        "AIR_JOB_ID": job.id,
        "AIR_TASK_ID": task.id,
        "AIR_RUN_ID": name,
        "AIR_ATTEMPT": str(task.runs),
    }
    timeout, secrets = task.timeout, task.secrets
    return Launch(
        slot=Slot(job.id, run.slot),
        uid=job.uid,
        run=name,
        task=task.id,
        argv=("sh", "-c", command) if isinstance(command, str) else tuple(command),
        env=env,
        out_dir=f"{layout.run(job.id, run.seq, task.id)}/out",
        workspace=layout.workspace(job.id),
        bin_dir=layout.bin,
        project=project,
        workdir=task.workdir,
        timeout=None if timeout is None else float(timeout),
        grace=float(task.grace),
        secrets=dict.fromkeys(secrets, "") if secrets_by_name else _secrets(secrets, secrets_dir, os.environ),
        epoch=epoch,
        options=options_of(task),
    )


def options_of(task: TaskState) -> dict[str, Any]:
    """Return what the task's open run asks of its platform, or the next one if there is none."""
    options = {"image": task.image, "network": task.network, "mounts": [asdict(mount) for mount in task.mounts]}
    return {name: value for name, value in (options | {"resources": resources_of(task)}).items() if value}


def _secrets(names: Any, folder: str | None, environ: Mapping[str, str]) -> dict[str, str]:  # noqa: ANN401 - a list of names
    found = {}
    for name in names:
        value = _secret_file(name, folder)
        if value is None:
            value = environ.get(f"AIR_SECRET_{name}")
        if value is None:
            where = f"no file {name} in {folder}, and" if folder else "AIR_SECRETS_DIR is not set, and"
            msg = f"secret {name}: {where} no AIR_SECRET_{name} in the manager's environment"
            raise SpawnRejectedError(msg)
        found[name] = value
    return found


def _secret_file(name: str, folder: str | None) -> str | None:
    if folder is None:
        return None
    try:
        path = os.path.realpath(f"{folder}/{name}")  # mounted secrets are symlinks
        found = files.read(path, MAX_SECRET)
    except CorruptFileError as error:
        msg = f"secret {name}: {error}"
        raise SpawnRejectedError(msg) from error
    return None if found is None else found[0].decode("utf-8", "surrogateescape").removesuffix("\n")
