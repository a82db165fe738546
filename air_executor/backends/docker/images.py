"""Which images the engine has, and the pulls that get the others: in threads of their own, each image once at a time.

`Backend.prepare` asks each cycle; nothing here waits. What cannot be had is remembered for a moment, so that every task
that waits for it learns why.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from air_executor.backends.docker.engine import Engine, MissingError, RefusedError
from air_executor.errors import BackendUnavailableError, SpawnRejectedError

FRESH_SECONDS = 10.0
"""How long the outcome of a pull holds: for all tasks that waited for it, and no longer."""
RETRY_SECONDS = 5.0
"""Between two tries to pull when a registry has a hiccup."""
MIB = 1 << 20
_HICCUP = re.compile(
    r"timeout|timed out|toomanyrequests|too many requests|connection reset|EOF|temporary failure|try again"
    r"|\b(?:429|500|502|503|504)\b|unavailable",
    re.IGNORECASE,
)
_DONE = frozenset({"Pull complete", "Already exists"})


@dataclass(slots=True)
class _Pull:
    """One image on its way."""

    image: str
    since: float
    note: str = "looking for the image"
    layers: dict[str, tuple[bool, int, int]] = field(default_factory=dict)
    """By layer: is it complete, how many bytes have come, of how many."""

    def report(self, layer: str, status: str, current: int, total: int) -> None:
        """Take note of one of the engine's reports."""
        if not layer or status.startswith(("Pulling from", "Digest", "Status")):
            return
        before = self.layers.get(layer, (False, 0, 0))
        counts = status == "Downloading"
        self.layers[layer] = (status in _DONE, current if counts else before[1], total if counts else before[2])
        done = sum(complete for complete, _, _ in self.layers.values())
        came = sum(size for _, size, _ in self.layers.values())
        of = sum(size for _, _, size in self.layers.values())
        self.note = f"{done} of {len(self.layers)} layers"
        if of:
            self.note += f", {came / MIB:.0f} of {of / MIB:.0f} MiB"


class Images:
    """The images of one engine, as far as tasks have asked for them."""

    def __init__(self, engine: Engine, policy: str, deadline: float, wake: Callable[[], None]) -> None:
        self._engine = engine
        self._policy = policy
        self._deadline = deadline
        self._wake = wake
        self._lock = threading.Lock()
        self._there: dict[str, tuple[float, str | None]] = {}
        """Images that the engine has: since when we know, monotonic seconds, and their own PYTHONPATH."""
        self._pulls: dict[str, _Pull] = {}
        self._failed: dict[str, tuple[float, str]] = {}

    def waits_for(self, image: str) -> str | None:
        """Return None if a container of this image may be created now, or what has to happen first; sees to it."""
        now = time.monotonic()
        with self._lock:
            if image in self._failed and now - self._failed[image][0] < FRESH_SECONDS:
                return None  # its tasks are to learn why, from `refusal`
            pull = self._pulls.get(image)
            if pull is not None:
                if now - pull.since <= self._deadline:
                    return f"image {image}: {pull.note}"
                del self._pulls[image]  # its thread ends whenever the engine lets it
                self._failed[image] = now, f"image {image} was not there after {self._deadline:g} s: {pull.note}"
                return None
            since = self._there.get(image, (None, None))[0]
            if since is not None and (self._policy != "always" or now - since < FRESH_SECONDS):
                return None
            pull = self._pulls[image] = _Pull(image, now)
        threading.Thread(target=self._get, args=(pull,), name=f"pull-{image}", daemon=True).start()
        return f"image {image}: {pull.note}"

    def refusal(self, image: str) -> str | None:
        """Return why the image cannot be had, if a pull has just failed."""
        with self._lock:
            when, why = self._failed.get(image, (0.0, None))
            return why if why is not None and time.monotonic() - when < FRESH_SECONDS else None

    def python_path(self, image: str) -> str | None:
        """Return the PYTHONPATH that an image sets for its containers, as far as is known."""
        with self._lock:
            return self._there.get(image, (0.0, None))[1]

    def forget(self, image: str) -> None:
        """Take note that the engine has lost an image."""
        with self._lock:
            self._there.pop(image, None)

    def _get(self, pull: _Pull) -> None:
        try:
            self._try(pull)
        finally:
            self._engine.release()

    def _try(self, pull: _Pull) -> None:
        why: str | None = None
        found: str | None = None
        try:
            found = self._find_or_pull(pull)
        except SpawnRejectedError as error:
            why = str(error)
        except BackendUnavailableError as error:
            pull.note = str(error)
            time.sleep(RETRY_SECONDS)
            with self._lock:
                if self._pulls.get(pull.image) is pull:
                    del self._pulls[pull.image]  # the next question starts anew
            self._wake()
            return
        now = time.monotonic()
        with self._lock:
            if self._pulls.get(pull.image) is not pull:
                return  # given up meanwhile
            del self._pulls[pull.image]
            if why is None:
                self._there[pull.image] = now, found
                self._failed.pop(pull.image, None)
            else:
                self._failed[pull.image] = now, why
        self._wake()

    def _find_or_pull(self, pull: _Pull) -> str | None:
        """Return the image's PYTHONPATH once the engine has it.

        Raises:
            SpawnRejectedError: it cannot be had.
            BackendUnavailableError: the engine does not answer.
        """
        image = pull.image
        if self._policy != "always":
            try:
                return _python_path(self._engine.image(image))
            except MissingError:
                if self._policy == "never":
                    msg = f"the engine has no image {image}, and AIR_DOCKER_PULL is never; pull it, or allow pulls"
                    raise SpawnRejectedError(msg) from None
            except RefusedError as error:
                msg = f"image {image}: {error}"
                raise SpawnRejectedError(msg) from error
        while True:
            try:
                for report in self._engine.pull(image):
                    detail = report.get("progressDetail") or {}
                    current, total = int(detail.get("current") or 0), int(detail.get("total") or 0)
                    pull.report(str(report.get("id") or ""), str(report.get("status") or ""), current, total)
                return _python_path(self._engine.image(image))
            except RefusedError as error:
                if isinstance(error, MissingError) or error.final or not _HICCUP.search(str(error)):
                    msg = f"image {image} cannot be pulled: {error}"
                    raise SpawnRejectedError(msg) from error
                pull.note = f"trying again: {error}"
            if time.monotonic() - pull.since > self._deadline:
                msg = f"image {image} could not be pulled within {self._deadline:g} s: {pull.note}"
                raise SpawnRejectedError(msg)
            time.sleep(RETRY_SECONDS)


def _python_path(described: dict[str, object]) -> str | None:
    config = described.get("Config")
    for entry in (config.get("Env") if isinstance(config, dict) else None) or ():
        name, _, value = str(entry).partition("=")
        if name == "PYTHONPATH":
            return value
    return None
