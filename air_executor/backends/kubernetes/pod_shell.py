"""Starts a program beside a task, in the pod of its run. Called by `wiring` for `air-executor shell`."""

from __future__ import annotations

from collections.abc import Sequence

from air_executor.backends.container.refusals import RefusedError
from air_executor.backends.container.remote_process import RemoteProcess, shell_words
from air_executor.backends.kubernetes.api import Api, pods
from air_executor.backends.kubernetes.kubernetes_setup import make_api
from air_executor.backends.kubernetes.manifests import RUN
from air_executor.backends.kubernetes.object_status import CONTAINER
from air_executor.errors import BadInputError, NotFoundError
from air_executor.settings import Settings


def open_shell(settings: Settings, run: str, command: Sequence[str], *, tty: bool) -> RemoteProcess:
    """Start a command, or else a shell, in the pod of a run.

    Raises:
        NotFoundError: the run has no running pod in this namespace.
        BadInputError: there is no access to the cluster, or the API server refuses to start it.
        BackendUnavailableError: it does not answer.
    """
    api = make_api(settings)
    try:
        return _open(api, run, command, tty=tty)
    except BaseException:
        api.close()
        raise


def _open(api: Api, run: str, command: Sequence[str], *, tty: bool) -> RemoteProcess:
    listed, _ = api.list(pods(api.namespace), f"{RUN}={run}")
    found = [pod for pod in listed if pod["status"].get("phase") == "Running"]
    if not found:
        msg = f"run {run} has no running pod in namespace {api.namespace}; it has just ended, or has not started yet"
        raise NotFoundError(msg)
    name = found[0]["metadata"]["name"]
    (container,) = [one for one in found[0]["spec"]["containers"] if one["name"] == CONTAINER]
    runner = [word.replace("$$", "$") for word in container["command"]]  # as the node does
    words = shell_words(runner, command)
    try:
        return api.execute(name, CONTAINER, words, tty=tty)
    except RefusedError as error:
        msg = (
            f"pod {name}: {error}; a shell takes the rights `get` and `create` on pods/exec, which the manager lacks: "
            f"use your own, or `kubectl -n {api.namespace} exec -it {name} -- sh`"
        )
        raise BadInputError(msg) from error
