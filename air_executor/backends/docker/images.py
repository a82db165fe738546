"""Which images the engine has, and the pulls of the others: in threads of their own, one pull per image at a time.

`Backend.prepare` asks each cycle and never waits. A failed pull is remembered for a moment, so that every task that
waits for the image gets the reason.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from air_executor.backends.container.refusals import MissingError, RefusedError
from air_executor.backends.docker.engine import Engine
from air_executor.errors import BackendUnavailableError, SpawnRejectedError
from air_executor.model.container_checks import is_image_reference
from air_executor.model.quote import quoted
from air_executor.runner import native

FRESH_SECONDS = 10.0
"""How long the outcome of a pull is valid: long enough for all tasks that waited for it."""
RETRY_SECONDS = 5.0
"""Between two attempts to pull after a transient failure of a registry."""
MIB = 1 << 20
_TRANSIENT = re.compile(
    r"timeout|timed out|toomanyrequests|too many requests|connection reset|EOF|temporary failure|try again"
    r"|\b(?:429|500|502|503|504)\b|unavailable",
    re.IGNORECASE,
)
_DONE = frozenset({"Pull complete", "Already exists"})


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image brings along that its containers must know."""

    machine: str | None = None
    """Its architecture, if there may be a native runner for it."""
    volumes: tuple[str, ...] = ()
    """Its `VOLUME` folders."""
    digest: str | None = None
    """Its name with the digest of its registry; the engine's own id if it came from no registry."""


@dataclass(slots=True)
class _Pull:
    """One image being pulled."""

    image: str
    since: float
    note: str = "looking for the image"
    layers: dict[str, tuple[bool, int, int]] = field(default_factory=dict)
    """By layer: complete or not, bytes downloaded, bytes in total."""

    def report(self, layer: str, status: str, current: int, total: int) -> None:
        """Apply one of the engine's progress reports."""
        if not layer or status.startswith(("Pulling from", "Digest", "Status")):
            return
        before = self.layers.get(layer, (False, 0, 0))
        is_download = status == "Downloading"
        self.layers[layer] = (
            status in _DONE,
            current if is_download else before[1],
            total if is_download else before[2],
        )
        done = sum(complete for complete, _, _ in self.layers.values())
        downloaded = sum(size for _, size, _ in self.layers.values())
        size = sum(size for _, _, size in self.layers.values())
        self.note = f"{done} of {len(self.layers)} layers"
        if size:
            self.note += f", {downloaded / MIB:.0f} of {size / MIB:.0f} MiB"


class Images:
    """The images of one engine that tasks have asked for."""

    def __init__(self, engine: Engine, policy: str, deadline: float, wake: Callable[[], None]) -> None:
        self._engine = engine
        self._policy = policy
        self._deadline = deadline
        self._wake = wake
        self._lock = threading.Lock()
        self._present: dict[str, tuple[float, ImageFacts]] = {}
        """Images that the engine has: when that was found out, monotonic seconds, and what is known of them."""
        self._pulls: dict[str, _Pull] = {}
        self._failed: dict[str, tuple[float, str]] = {}

    def waits_for(self, image: str) -> str | None:
        """Return None if a container of this image may be created now, else what it waits for; pull if needed."""
        now = time.monotonic()
        with self._lock:
            if image in self._failed and now - self._failed[image][0] < FRESH_SECONDS:
                return None  # `spawn` gets the reason from `refusal`
            pull = self._pulls.get(image)
            if pull is not None:
                if now - pull.since <= self._deadline:
                    return f"image {image}: {pull.note}"
                del self._pulls[image]  # its thread ends when the engine lets it
                self._failed[image] = now, f"image {image} was not there after {self._deadline:g} s: {pull.note}"
                return None
            since = self._present[image][0] if image in self._present else None
            if since is not None and (self._policy != "always" or now - since < FRESH_SECONDS):
                return None
            pull = self._pulls[image] = _Pull(image, now)
        threading.Thread(target=self._run, args=(pull,), name=f"pull-{image}", daemon=True).start()
        return f"image {image}: {pull.note}"

    def refusal(self, image: str) -> str | None:
        """Return why the image is unavailable, if its pull has just failed."""
        with self._lock:
            when, why = self._failed.get(image, (0.0, None))
            return why if why is not None and time.monotonic() - when < FRESH_SECONDS else None

    def facts(self, image: str) -> ImageFacts:
        """Return what is known of an image."""
        with self._lock:
            return self._present[image][1] if image in self._present else ImageFacts()

    def forget(self, image: str) -> None:
        """Note that the engine no longer has an image."""
        with self._lock:
            self._present.pop(image, None)

    def _run(self, pull: _Pull) -> None:
        try:
            self._pull(pull)
        finally:
            self._engine.release()

    def _pull(self, pull: _Pull) -> None:
        why: str | None = None
        found = ImageFacts()
        try:
            _check_name(pull.image)
            found = self._find_or_pull(pull)
        except SpawnRejectedError as error:
            why = str(error)
        except BackendUnavailableError as error:
            pull.note = str(error)
            time.sleep(RETRY_SECONDS)
            with self._lock:
                if self._pulls.get(pull.image) is pull:
                    del self._pulls[pull.image]  # the next cycle starts another pull
            self._wake()
            return
        now = time.monotonic()
        with self._lock:
            if self._pulls.get(pull.image) is not pull:
                return  # its deadline has passed meanwhile
            del self._pulls[pull.image]
            if why is None:
                self._present[pull.image] = now, found
                self._failed.pop(pull.image, None)
            else:
                self._failed[pull.image] = now, why
        self._wake()

    def _find_or_pull(self, pull: _Pull) -> ImageFacts:
        """Return what is known of the image once the engine has it.

        Raises:
            SpawnRejectedError: it cannot be pulled.
            BackendUnavailableError: the engine does not answer.
        """
        image = pull.image
        if self._policy != "always":
            try:
                return _facts(self._engine.image(image))
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
                return _facts(self._engine.image(image))
            except RefusedError as error:
                if isinstance(error, MissingError) or error.permanent or not _TRANSIENT.search(str(error)):
                    msg = f"image {image} cannot be pulled: {error}"
                    raise SpawnRejectedError(msg) from error
                pull.note = f"retrying: {error}"
            if time.monotonic() - pull.since > self._deadline:
                msg = f"image {image} could not be pulled within {self._deadline:g} s: {pull.note}"
                raise SpawnRejectedError(msg)
            time.sleep(RETRY_SECONDS)


def _check_name(image: str) -> None:
    """Refuse what is no name: the engine would take ../containers/NAME for another of its resources.

    Raises:
        SpawnRejectedError: it is none.
    """
    if not is_image_reference(image):
        msg = f"{quoted(image)} is not the name of an image"
        raise SpawnRejectedError(msg)


def _facts(described: dict[str, Any]) -> ImageFacts:
    config = described.get("Config") or {}
    machine = native.MACHINES.get(str(described.get("Architecture"))) if described.get("Os") == "linux" else None
    named = [*(described.get("RepoDigests") or ()), described.get("Id")]
    return ImageFacts(machine, tuple(sorted(config.get("Volumes") or ())), named[0])
