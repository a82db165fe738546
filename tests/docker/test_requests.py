"""What the manager asks of the engine: only what it needs, nothing that a narrow proxy forbids; any of it may fail."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from ruamel.yaml import YAML

from air_executor.backends.docker import container_watch
from air_executor.backends.docker.engine_check import check
from air_executor.core import plan
from air_executor.core.finding import BAD
from air_executor.model.records import Request
from air_executor.store.presence import read_record
from tests.docker.proxy import Fault, Proxy
from tests.docker.rig import Plant, done, socket_path
from tests.engine import NO_SHELL, require_image
from tests.images.rig import TREE

pytestmark = pytest.mark.docker

WAITS = "while [ ! -e go ]; do sleep 0.05; done"
CREATE, START, DELETE = r"^POST /containers/create$", r"^POST /containers/\w+/start$", r"^DELETE /containers/"
KILL, LIST, INSPECT = r"^POST /containers/\w+/kill$", r"^GET /containers/json$", r"^GET /containers/\w{64}/json$"
EVENTS = r"^GET /events$"


@pytest.fixture
def proxy(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A way to the engine for the manager that is started next."""
    made = Proxy(socket_path())
    monkeypatch.setenv("DOCKER_HOST", made.address)
    yield made
    made.heal()
    if plant.running:
        plant.stop()
    monkeypatch.undo()
    made.close()


def is_clear(plant: Plant) -> bool:
    """Tell whether no container is left."""
    return not plant.containers()


def cancel(plant: Plant, job: str) -> None:
    """Ask for the end of a job."""
    plant.client.inbox.post(Request("cancel", job), time.time())


def test_a_run_costs_three_requests(plant: Plant, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create, start, delete; while runners run, nothing is asked about them."""
    monkeypatch.setattr(container_watch, "RELIST_SECONDS", 3600.0)
    monkeypatch.setattr(plan, "LINGER", 600.0)  # a busy engine takes its time to see an end; nobody is to help it here
    tasks = [{"id": f"t{number}x", "command": "true"} for number in range(4)]
    plant.submit("first", tasks[0])
    plant.see("first")
    plant.until(lambda: is_clear(plant), "the container to be removed")
    before = len(proxy.requests)
    plant.submit("many", *tasks, max_runners=2)
    plant.see("many")
    plant.until(lambda: is_clear(plant), "the containers to be removed")
    made = Counter(re.sub(r"\w{64}", "ID", str(request)) for request in proxy.requests[before:])
    made.pop("GET /containers/json", None)  # by the clock, not by the run
    made.pop("GET /events", None)
    assert made == {"POST /containers/create": 4, "POST /containers/ID/start": 4, "DELETE /containers/ID": 4}


def test_a_start_without_an_answer_is_not_repeated(plant: Plant, proxy: Proxy) -> None:
    """Where it has come through, the container runs or has run, and a second start would make it run once more."""
    proxy.spoil(START, Fault.UNANSWERED, 1)
    task = plant.run("sleep 0.5")
    assert (task.phase, task.runs) == ("succeeded", 1)
    plant.until(lambda: is_clear(plant), "the container to be removed")
    assert len(proxy.made(START)) == 1


def test_running_containers_are_not_polled(plant: Plant, proxy: Proxy) -> None:
    """A hundred looks at two running containers make no request."""
    plant.submit("long", *({"id": f"w{number}", "command": WAITS} for number in range(2)), max_runners=2)
    plant.until(lambda: len(proxy.made(START)) == 2, "both to be started")
    plant.until(lambda: [one["State"] for one in plant.containers()] == ["running"] * 2, "both to run")
    before = len(proxy.requests)
    for _ in range(100):
        plant.manager.cycle()
    assert [str(request) for request in proxy.requests[before:] if not re.search(LIST, str(request))] == []
    plant.file("long", "go").touch()
    plant.see("long")


def test_a_narrow_proxy_lets_it_through(plant: Plant, proxy: Proxy) -> None:
    """Whatever happens to runners and images, and whatever `doctor` looks at, the example's patterns allow."""
    text = (TREE / "examples/compose/proxy.yaml").read_text().replace("!override", "")
    flags = YAML(typ="safe").load(text)["services"]["socket-proxy"]["command"]
    allowed = [re.match(r"-allow(GET|POST|DELETE)=(.*)", flag) for flag in flags]
    rules = [(found[1], found[2]) for found in allowed if found]
    no_shell = require_image(NO_SHELL)
    before = len(proxy.requests)
    plant.submit("fine", {"id": "it", "command": "true"})
    plant.submit(
        "fails",
        {"id": "code", "command": "exit 127"},
        {"id": "shell", "command": "true", "image": no_shell},
        {"id": "image", "command": "true", "image": "localhost:1/none:1"},
        on_failure="continue",
    )
    for job in ("fine", "fails"):
        plant.see(job)
    plant.until(lambda: is_clear(plant), "the containers to be removed")
    plant.submit("long", {"id": "it", "command": WAITS, "grace": 1})
    plant.engine.pause(plant.the_container())
    cancel(plant, "long")
    plant.see("long")
    plant.until(lambda: is_clear(plant), "the containers to be removed")
    assert [one for one in check(plant.settings, "test") if one.verdict == BAD] == []
    for kind in (CREATE, START, DELETE, KILL, LIST, INSPECT, EVENTS, "^POST /images/create", r"/logs$"):
        assert proxy.made(kind), f"{kind} was not needed"
    blocked = {
        str(request)
        for request in proxy.requests[before:]
        if not any(request.method == method and re.fullmatch(path, request.path) for method, path in rules)
    }
    assert blocked == set()


@pytest.mark.parametrize("fault", [Fault.UNHEARD, Fault.UNANSWERED, Fault.STALLED], ids=lambda fault: fault.name)
def test_any_request_may_get_lost(plant: Plant, proxy: Proxy, fault: Fault) -> None:
    """Whether the request has reached the engine or not: each attempt that counts ran once, and nothing is left."""
    plant.start(timeout=1.0)
    plant.submit("warm", {"id": "it", "command": "true"})
    plant.see("warm")
    for kind in (CREATE, START, DELETE, LIST, INSPECT):
        proxy.spoil(kind, fault, times=1)
    plant.submit("hit", {"id": "it", "command": "echo x >>ran; exit 3", "retries": 1, "retry_delay": "0s"})
    task = plant.see("hit").tasks["it"]
    assert [attempt.reason for attempt in task.attempts if attempt.reason != "requeue"] == ["error", "error"]
    assert plant.file("hit", "ran").read_text() == "x\nx\n"
    plant.until(lambda: is_clear(plant), "the containers to be removed")
    assert proxy.unspoiled() == []


def test_a_kill_that_got_lost_is_repeated(plant: Plant, proxy: Proxy) -> None:
    """A cancelled task ends though the first requests for it fail in every way."""
    plant.start(timeout=1.0)
    plant.submit("long", {"id": "it", "command": WAITS, "grace": 1})
    plant.the_container()
    for fault in (Fault.STALLED, Fault.REFUSED, Fault.UNHEARD):
        proxy.spoil(KILL, fault, times=1)
    cancel(plant, "long")
    assert plant.see("long").phase == "cancelled"
    assert len(proxy.made(KILL)) >= 4
    plant.until(lambda: is_clear(plant), "the container to be removed")


def test_an_engine_that_refuses_to_list(plant: Plant, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its message is shown, nothing is concluded from it, and all goes on when it lists again."""
    monkeypatch.setattr(container_watch, "RELIST_SECONDS", 0.2)
    plant.submit("long", {"id": "it", "command": WAITS})
    plant.the_container()
    proxy.spoil(LIST, Fault.REFUSED)
    plant.until(lambda: read_record(plant.layout)["backend"]["problem"] is not None, "the refusal to be noticed")
    problem = read_record(plant.layout)["backend"]["problem"]
    assert "cannot list its containers: the engine has a bad day" in problem
    plant.file("long", "go").touch()
    plant.submit("next", {"id": "it", "command": "true"})
    for _ in range(20):
        plant.manager.cycle()
    assert (plant.job("long").phase, plant.job("next").phase) == ("running", "queued")
    proxy.heal()
    assert (plant.see("long").phase, plant.see("next").phase) == ("succeeded", "succeeded")
    assert plant.job("long").tasks["it"].runs == 1


def test_a_removal_that_is_refused_is_not_hammered(plant: Plant, proxy: Proxy) -> None:
    """It is asked for again, with growing pauses, until the engine can; the task is committed meanwhile."""
    proxy.spoil(DELETE, Fault.REFUSED)
    plant.submit("j", {"id": "it", "command": "true"})
    assert plant.see("j").phase == "succeeded"
    plant.until(lambda: len(proxy.made(DELETE)) > 0, "the removal to be asked for")
    begun = time.monotonic()
    plant.until(lambda: len(proxy.made(DELETE)) > 2, "the removal to be asked for again")
    assert time.monotonic() - begun > 1
    proxy.heal()
    plant.until(lambda: is_clear(plant), "the container to be removed")


def test_a_dead_stream_is_replaced(plant: Plant, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is open and says nothing is found out by the first end that only a list shows, and replaced."""
    monkeypatch.setattr(container_watch, "RELIST_SECONDS", 0.5)
    plant.submit("first", {"id": "it", "command": WAITS})
    plant.the_container()
    streams = len(proxy.made(EVENTS))
    proxy.hush()
    plant.file("first", "go").touch()
    assert plant.see("first").phase == "succeeded"
    plant.until(lambda: len(proxy.made(EVENTS)) > streams, "another stream to be opened")
    proxy.heal()
    monkeypatch.setattr(container_watch, "RELIST_SECONDS", 3600.0)
    plant.submit("second", {"id": "it", "command": "true"})
    assert done(plant.see("second").tasks["it"]).reason == "ok"


def test_without_events_it_goes_on(plant: Plant, proxy: Proxy) -> None:
    """An engine, or a proxy, that gives no events only makes things slower."""
    proxy.spoil(EVENTS, Fault.REFUSED)
    plant.submit("j", {"id": "a", "command": "true"}, {"id": "b", "command": "exit 1"})
    assert plant.see("j").phase == "failed"
    assert [attempt.reason for task in plant.job("j").tasks.values() for attempt in task.attempts] == ["ok", "error"]
