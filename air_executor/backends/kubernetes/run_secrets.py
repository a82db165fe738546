"""The Secrets with the tokens of runs whose files come over HTTP: one for each Job, which owns it. Used by the backend.

A pod waits for its Secret. So a manager that died after it had created a Job leaves nothing that its successor cannot
complete: whatever has not started yet is given its Secret by each manager.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection

from air_executor.backends.base import MakeToken
from air_executor.backends.container.refusals import ConflictError
from air_executor.backends.kubernetes import pod_transport
from air_executor.backends.kubernetes.api import Api
from air_executor.backends.kubernetes.manifests import INSTANCE, ClusterConfig
from air_executor.backends.kubernetes.object_status import Stage
from air_executor.backends.kubernetes.runner_cache import TrackedRunner

LOOK_AGAIN = 5.0
"""Seconds after which a name that was taken is tried again: a Secret goes a moment after the Job that owned it."""


class RunSecrets:
    """The Secrets of one manager's runs."""

    def __init__(self, api: Api, config: ClusterConfig, make_token: MakeToken, authorities: str | None) -> None:
        """`authorities`: certificates that pods trust, as PEM."""
        self._api = api
        self._config = config
        self._make_token = make_token
        self._authorities = authorities
        self._next: dict[str, float] = {}
        """By Job's uid: when its Secret is to be created, if it has not started then; monotonic seconds."""

    def missing(self, runners: Collection[TrackedRunner]) -> list[TrackedRunner]:
        """Return those of all runners that have not started, and to whom we have given no Secret yet."""
        now = time.monotonic()
        self._next = {one.uid: self._next.get(one.uid, now) for one in runners}
        waiting = [one for one in runners if self._next[one.uid] <= now and one.task and one.present]
        return [one for one in waiting if not one.delete_requested and _may_start(one)]

    def give(self, one: TrackedRunner) -> None:
        """Create the Secret of a runner; fine if it exists.

        Raises:
            RefusedError: the server refuses.
            BackendUnavailableError: it does not answer.
        """
        token = self._make_token(one.slot, one.run, one.task)
        labels = {"app.kubernetes.io/managed-by": "air-executor", INSTANCE: self._config.instance}
        owner = pod_transport.owner_of(one.name, one.uid)
        made = pod_transport.secret_manifest(owner, one.run, labels, token, self._authorities)
        try:
            self._api.create_secret(made)
        except ConflictError:  # ours, or an earlier manager's for the same run; or about to go
            self._next[one.uid] = time.monotonic() + LOOK_AGAIN
        else:
            self._next[one.uid] = math.inf


def _may_start(one: TrackedRunner) -> bool:
    """Tell whether a runner has not started and may: a suspended one may be so for longer than a token is valid."""
    found = one.pending_reason()
    return found is not None and found.stage is not Stage.SUSPENDED
