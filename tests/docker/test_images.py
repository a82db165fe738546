"""Images that the engine has to get first, from a registry that is slow, guarded, down or without them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import docker.errors
import pytest

from air_executor.backends.docker import images
from air_executor.backends.docker.engine import Engine
from air_executor.store.presence import read_record
from tests.conftest import wait_for
from tests.docker.registry import Registry, serving
from tests.docker.rig import Plant, done
from tests.engine import require_image

pytestmark = pytest.mark.docker

SHOW = 'echo "$VERSION $PYTHONPATH" >shown'


@pytest.fixture
def registry(plant: Plant, tmp_path: Path) -> Iterator[Registry]:
    """A registry with one image; the engine forgets that afterwards."""
    with serving(tmp_path / "registry") as made:
        yield made
    if plant.running:
        plant.stop()
    plant.rig.close()
    for one in plant.engine.images(name=made.image.rpartition(":")[0], all=True):
        with contextlib.suppress(docker.errors.ImageNotFound):
            plant.engine.remove_image(one["Id"], force=True)


def task(registry: Registry, name: str = "it", command: str = SHOW) -> dict[str, str]:
    """Return a task that needs the image."""
    return {"id": name, "command": command, "image": registry.image}


def test_a_pull_holds_up_nobody_else(plant: Plant, registry: Registry) -> None:
    """Two jobs wait for one pull and say how far it is, without a run or a slot; a third does not wait for it."""
    registry.hold()
    plant.submit("first", task(registry))
    plant.submit("second", task(registry))
    plant.submit("other", {"id": "it", "command": "true"})
    assert plant.see("other").phase == "succeeded"

    def shown() -> bool:
        waiting = read_record(plant.layout).get("waiting", {})
        return {"first", "second"} <= waiting.keys() and all("0 of 1 layers" in waiting[job] for job in waiting)

    plant.until(shown, "the record to say how far the pull is")
    assert read_record(plant.layout)["waiting"]["first"].startswith(f"task it: image {registry.image}: ")
    assert plant.job("first").seq == plant.job("second").seq == 0
    assert plant.manager.open_runs.taken() == 0
    registry.release()
    assert [plant.see(job).tasks["it"].runs for job in ("first", "second")] == [1, 1]
    assert plant.file("first", "shown").read_text() == "1 /opt:/air/bin\n"
    assert registry.manifests == 1


def test_always(plant: Plant, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the policy `always` a new version of an image comes with the next task; with `missing` it does not."""
    monkeypatch.setattr(images, "FRESH_SECONDS", 1.0)
    plant.start(pull="always")
    plant.submit("old", task(registry))
    plant.see("old")
    registry.publish("2")
    plant.stop()
    plant.start(pull="missing")
    plant.submit("kept", task(registry))
    plant.see("kept")
    plant.stop()
    plant.start(pull="always")
    plant.submit("new", task(registry))
    plant.see("new")
    assert [plant.file(job, "shown").read_text()[0] for job in ("old", "kept", "new")] == ["1", "1", "2"]


def test_never(plant: Plant, registry: Registry) -> None:
    """With the policy `never` nobody asks the registry, and the task fails with the way out."""
    plant.start(pull="never")
    plant.submit("j", task(registry))
    ended = done(plant.see("j").tasks["it"])
    assert ended.reason == "start-failed"
    assert f"no image {registry.image}, and AIR_DOCKER_PULL is never" in str(ended.message)
    assert registry.manifests == 0


def test_credentials(plant: Plant, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that wants a password gets the one of the user's Docker configuration, as it is when it is needed."""
    registry.guard("s3cret")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr(images, "FRESH_SECONDS", 0.5)
    plant.submit("before", task(registry))
    ended = done(plant.see("before").tasks["it"])
    assert (ended.reason, plant.job("before").tasks["it"].runs) == ("start-failed", 1)
    assert "no basic auth credentials" in str(ended.message)
    host = registry.image.partition("/")[0]
    token = base64.b64encode(b"me:s3cret").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": token}}}))
    plant.until(lambda: plant.backend.prepare(task(registry)) is not None, "the refusal to be forgotten")
    plant.submit("after", task(registry))
    assert plant.see("after").phase == "succeeded"


def test_the_deadline(plant: Plant, registry: Registry) -> None:
    """A registry that stalls is given up after a while; every task that waited fails at once, with how far it came."""
    registry.hold()
    plant.start(pull_deadline=600.0)
    for job in ("first", "second"):
        plant.submit(job, task(registry))

    def held() -> bool:
        waits = read_record(plant.layout).get("waiting", {})
        return len(waits) == 2 and all("0 of 1 layers" in why for why in waits.values())

    plant.until(held, "the pull to be held up")
    plant.stop()
    plant.start(pull_deadline=2.0)
    for job in ("first", "second"):
        it = plant.see(job).tasks["it"]
        assert (done(it).reason, it.runs) == ("start-failed", 1)
        assert f"image {registry.image} was not there after 2 s: 0 of 1 layers" in str(done(it).message)


@pytest.mark.parametrize("change", [Registry.unpublish, lambda registry: registry.serve({})], ids=["none", "nonsense"])
def test_what_does_not_exist(plant: Plant, registry: Registry, change: Callable[[Registry], None]) -> None:
    """Two tasks of one impossible image fail in their first attempt, in the engine's words."""
    missing = registry.image.replace("air-test", "no-such-test")
    change(registry)
    plant.submit("j", *(task(registry, name) | {"image": missing} for name in ("one", "two")), on_failure="continue")
    for it in plant.see("j").tasks.values():
        assert (done(it).reason, it.runs) == ("start-failed", 1)
        assert f"image {missing} cannot be pulled: " in str(done(it).message)


def test_a_hiccup(plant: Plant, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that is down for a moment costs the task nothing but that moment."""
    monkeypatch.setattr(images, "RETRY_SECONDS", 0.2)
    registry.fail(3)
    plant.submit("j", task(registry))
    it = plant.see("j").tasks["it"]
    assert (done(it).reason, it.runs, registry.failures) == ("ok", 1, 0)


def test_an_image_that_was_removed(plant: Plant, registry: Registry) -> None:
    """The engine had it and has it no more: it is pulled again, at the platform's expense."""
    plant.submit("before", task(registry))
    plant.see("before")
    plant.until(lambda: not plant.containers(), "the container to be removed")
    plant.engine.remove_image(registry.image)
    plant.submit("after", task(registry))
    it = plant.see("after").tasks["it"]
    assert [attempt.reason for attempt in it.attempts] == ["start-failed", "ok"]
    assert "No such image" in str(it.attempts[0].message)


def test_pulls_leave_no_connections() -> None:
    """A manager that pulls for years has no more connections than at first."""
    name = require_image()
    engine = Engine(30.0)
    before = len(os.listdir("/proc/self/fd"))
    found = images.Images(engine, "missing", 60.0, lambda: None)
    wait_for(lambda: found.waits_for(name) is None, what="the image to be found")
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before, what="the connection to be closed")
    engine.close()
