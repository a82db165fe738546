"""The containers of one trial: found by their names, whatever the manager and the labels say."""

from __future__ import annotations

import contextlib
import secrets
import time
from typing import Any

import docker.errors
import requests
from filelock import FileLock

from tests.crash import daemon
from tests.crash.gate import Gate
from tests.engine import require_engine, require_image, socket_path

LOOK_FOR = 1.0
"""Seconds that a blow waits for somebody to hit."""
_KILL_ALL = ["kill", "-KILL", "-1"]
"""Of a container's processes all but its first, which the kernel spares, and this one."""
NO_ANSWER = (docker.errors.DockerException, requests.RequestException)


class Containers:
    """The runners of one trial: see `tests.crash.platform.Platform`."""

    def __init__(self, folder: str) -> None:
        self._socket = socket_path()  # it goes between, and finds the engine's process
        self._restarting = FileLock(f"{folder}/engine.lock")
        with self._restarting:  # another trial may be at it
            self._client = require_engine()
            self.image = require_image()
        self._gate = Gate(self._socket)
        self.prefix = f"c{secrets.token_hex(5)}"
        self.address = self._gate.address

    def left(self) -> list[str]:
        """Return what is there, ended or not."""
        return [f"{one['Names'][0]} {one['State']}" for one in self._all()]

    def lingering(self) -> bool:
        """Tell whether something is still there: what has just ended may be said to run."""
        return bool(self._all())

    def strike(self, target: str, choice: float) -> str | None:
        """Kill a runner (`runner`), all of it but its first process (`inside`), or remove it while it runs (`removed`).

        Or begin an interruption that `relent` ends: no answers (`silence`), broken connections (`break`), no engine
        (`engine`).
        """
        if target == "silence":
            self._gate.shut()
        elif target == "break":
            self._gate.slam()
        elif target == "engine":
            with self._restarting:
                daemon.restart_engine(self._socket, kill=choice < 0.5)
        else:
            return self._kill(target, choice)
        return target

    def relent(self) -> None:
        """Answer again."""
        self._gate.open()

    def clear(self) -> None:
        """Remove whatever is left."""
        for one in self._all():
            with contextlib.suppress(*NO_ANSWER):  # it goes by itself
                self._client.remove_container(one["Id"], force=True)

    def close(self) -> None:
        """Let go of the engine."""
        self._gate.close()
        self._client.close()

    def _all(self) -> list[dict[str, Any]]:
        """Return all containers of the trial; waits while another trial restarts the engine."""
        until = time.monotonic() + daemon.PATIENCE
        while True:
            try:
                found: list[dict[str, Any]] = self._client.containers(all=True, filters={"name": [f"^/{self.prefix}-"]})
            except NO_ANSWER:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
            else:
                return found

    def _await_running(self) -> list[dict[str, Any]]:
        """Return what runs, once something does: starting takes longer than most tasks, so a look seldom meets one."""
        until = time.monotonic() + LOOK_FOR
        while True:
            running = [one for one in self._all() if one["State"] == "running"]
            if running or time.monotonic() > until:
                return sorted(running, key=lambda one: str(one["Id"]))
            time.sleep(0.01)

    def _kill(self, target: str, choice: float) -> str | None:
        try:
            running = self._await_running()
            if not running:
                return None
            victim = running[int(choice * len(running))]
            match target:
                case "inside":
                    made = self._client.exec_create(victim["Id"], _KILL_ALL)
                    self._client.exec_start(made["Id"], detach=True)
                case "removed":
                    self._client.remove_container(victim["Id"], force=True)
                case _:
                    self._client.kill(victim["Id"], "KILL")
        except NO_ANSWER:  # it has ended meanwhile, or the engine is being restarted by another trial
            return None
        return f"{target} {victim['Names'][0]} {victim['Labels'].get('air-executor.run')}"
