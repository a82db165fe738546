"""Watches that break, fall silent or are too old; servers that go, refuse and ask for pauses. Nothing is concluded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from air_executor.backends.base import RunnerStatus
from air_executor.backends.kubernetes import KubernetesBackend, api, object_watch, refused_starts, runner_cache
from air_executor.backends.kubernetes import make_backend as make
from air_executor.backends.kubernetes.rate_limiter import RateLimiter
from air_executor.backends.kubernetes.refused_starts import RefusedStarts
from air_executor.backends.kubernetes.runner_cache import Deadlines, RunnerCache
from air_executor.errors import AirExecutorError, BackendUnavailableError, DuplicateRunnerError, SpawnRejectedError
from air_executor.model.names import Slot
from air_executor.settings import KubernetesSettings, Settings
from air_executor.store.layout import Layout
from air_executor.store.service_logs import keeper_of
from tests.backends.rig import Task, make_launch
from tests.conftest import wait_for
from tests.kubernetes.server import Server, job, pod, status

CENSUS, OTHER = Slot("census", 0), Slot("other", 0)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that KUBECONFIG names."""
    ready = Server()
    ready.write_config(tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr(object_watch, "MAX_BACKOFF", 0.2)
    yield ready
    ready.stop()


@pytest.fixture
def kubernetes(server: Server, tmp_path: Path) -> Iterator[KubernetesBackend]:
    """A backend that talks to it."""
    layout = Layout(tmp_path / "state")
    for name in ("census", "other"):
        Path(layout.workspace(name)).mkdir(parents=True)
        Path(layout.run(name, 1, "t")).mkdir(parents=True)
    group = KubernetesSettings(claim="state", timeout=5.0, rate=1000.0)
    made = make(Settings(state_dir=layout.root, kubernetes=group), "0", keeper_of(layout))
    yield made
    made.close()


def slots(kubernetes: KubernetesBackend) -> set[Slot]:
    """Return the slots that are listed; none where the backend cannot answer."""
    try:
        return set(kubernetes.observe())
    except BackendUnavailableError:
        return set()


def begin(server: Server, kubernetes: KubernetesBackend) -> None:
    """Let the backend list one runner and watch it."""
    server.put("jobs", job("census", "0badcafe-1"))
    server.put("pods", pod(job("census", "0badcafe-1")))
    assert slots(kubernetes) == {CENSUS}
    wait_for(lambda: server.watches == 2, what="both watches")


def test_events_arrive_and_wake(server: Server, kubernetes: KubernetesBackend) -> None:
    """What happens is known without a request, and whoever waits is woken."""
    begin(server, kubernetes)
    woken: list[int] = []
    kubernetes.on_change(lambda: woken.append(1))
    before = server.asked.copy()
    server.put("pods", pod(job("census", "0badcafe-1"), "Succeeded", state={"terminated": {"exitCode": 0}}))
    wait_for(lambda: kubernetes.observe()[CENSUS].finished, what="the end")
    wait_for(lambda: woken, what="the wake")
    assert server.asked == before


def test_an_idle_backend_asks_nothing(server: Server, kubernetes: KubernetesBackend) -> None:
    """However often it is observed, it lists and watches once."""
    begin(server, kubernetes)
    for _ in range(200):
        kubernetes.observe()
    assert server.asked == {"GET": 1, "list jobs": 1, "list pods": 1, "watch jobs": 1, "watch pods": 1}


def test_a_run_costs_two_requests(server: Server, kubernetes: KubernetesBackend, tmp_path: Path) -> None:
    """One creates its Job, one deletes it, though it is observed and asked to go in every cycle."""
    assert kubernetes.observe() == {}
    wait_for(lambda: server.watches == 2, what="both watches")
    before = server.asked.copy()
    launch = make_launch(Layout(tmp_path / "state"), CENSUS, 1, Task.ENDS)
    kubernetes.spawn(launch)
    mine = {"metadata": {**job("census", launch.run)["metadata"], "uid": "uid-air-census"}}
    server.put("pods", pod(mine))
    server.put("pods", pod(mine, "Succeeded", state={"terminated": {"exitCode": 0}}))
    wait_for(lambda: kubernetes.observe()[CENSUS].finished, what="the end")

    def is_gone() -> bool:
        kubernetes.remove(CENSUS)
        return not kubernetes.observe()

    wait_for(is_gone, what="its name to be free")
    assert server.asked - before == {"POST": 1, "DELETE": 1}


def test_a_look_at_a_pod_that_is_under_way_costs_one_request(
    server: Server, kubernetes: KubernetesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its time is up only its events are read, and reported."""
    monkeypatch.setattr(runner_cache, "INSPECT_AFTER", 0.0)
    monkeypatch.setattr(runner_cache, "INSPECT_POD_AFTER", 0.0)
    server.events = [{"type": "Warning", "reason": "FailedMount", "message": "no such secret"}]
    server.put("jobs", job("census", "0badcafe-1"))
    waiting = {"waiting": {"reason": "ContainerCreating"}}
    on_a_node = [{"type": "PodScheduled", "status": "True"}]
    server.put("pods", pod(job("census", "0badcafe-1"), "Pending", state=waiting, conditions=on_a_node))
    wait_for(lambda: "no such secret" in str(kubernetes.observe()[CENSUS].message), what="what was noted")
    assert server.asked["list events"]
    assert (server.asked["GET"], server.asked["list jobs"], server.asked["list pods"]) == (1, 1, 1)


def test_a_look_that_fails_waits_for_the_next_cycle(
    server: Server, kubernetes: KubernetesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wakes nobody, who would only look again at once and for ever; the next cycle looks again."""
    monkeypatch.setattr(runner_cache, "INSPECT_POD_AFTER", 0.0)
    begin(server, kubernetes)
    woken: list[int] = []
    kubernetes.on_change(lambda: woken.append(1))
    server.refuse = lambda what: (403, status(403, "Forbidden"), {}) if what == "list events" else None
    on_a_node = [{"type": "PodScheduled", "status": "True"}]
    server.put("pods", pod(job("census", "0badcafe-1"), "Pending", conditions=on_a_node))
    wait_for(lambda: woken, what="the event")
    wait_for(lambda: kubernetes.observe() and server.asked["list events"] >= 3, what="looks")
    kubernetes.close()
    assert len(woken) == 1


def test_a_watch_that_ends_goes_on_from_there(server: Server, kubernetes: KubernetesBackend) -> None:
    """Without a list, from the last version that was seen; bookmarks count."""
    begin(server, kubernetes)
    for what in ("jobs", "pods"):
        server.tell(what, {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "777"}}})
    server.break_off()
    wait_for(lambda: server.watches == 2, what="both watches again")
    assert server.since[2:] == ["777", "777"]
    assert (server.asked["list jobs"], server.asked["list pods"]) == (1, 1)


@pytest.mark.parametrize("how", ["event", "answer"])
def test_a_version_that_is_too_old(server: Server, kubernetes: KubernetesBackend, how: str) -> None:
    """410, as an event or as an answer, leads to a new list, which also shows what was missed."""
    begin(server, kubernetes)
    server.jobs.clear()
    server.pods.clear()
    other = job("other", "0badcafe-2")
    server.jobs["x"] = other
    if how == "event":
        for what in ("jobs", "pods"):
            server.tell(what, {"type": "ERROR", "object": status(410, "Expired")})
    else:
        server.refuse = lambda what: (
            (410, status(410, "Expired"), {}) if what.startswith("watch") and server.asked[what] == 2 else None
        )
        server.break_off()
    wait_for(lambda: OTHER in slots(kubernetes), what="the new list")
    kubernetes.remove(CENSUS)  # an end that went unseen is reported until it is committed
    wait_for(lambda: slots(kubernetes) == {OTHER}, what="the old one to be gone")


def test_an_error_event_leads_to_a_new_list(server: Server, kubernetes: KubernetesBackend) -> None:
    """Any other error, like a change of etcd's leader, makes the backend start over."""
    begin(server, kubernetes)
    for what in ("jobs", "pods"):
        server.tell(what, {"type": "ERROR", "object": status(500, "InternalError", "etcdserver: leader changed")})
    wait_for(lambda: server.asked["list jobs"] == 2 and server.asked["list pods"] == 2, what="new lists")
    wait_for(lambda: slots(kubernetes) == {CENSUS}, what="an answer")


def test_a_silent_stream_is_given_up(
    server: Server, kubernetes: KubernetesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that brings nothing, not even a bookmark, is dead: another one shows what it has missed."""
    monkeypatch.setattr(object_watch, "SILENCE_SECONDS", 0.3)
    begin(server, kubernetes)
    server.streams.clear()  # open, and never written to again
    wait_for(lambda: server.watches == 2, what="both watches again")
    server.put("jobs", job("other", "0badcafe-2"), "ADDED")
    wait_for(lambda: slots(kubernetes) == {CENSUS, OTHER}, what="the event")


def test_a_server_that_goes_and_comes_back(server: Server, kubernetes: KubernetesBackend, tmp_path: Path) -> None:
    """Unknown is not gone: meanwhile the backend says that it does not know, and nothing may be started or removed."""
    begin(server, kubernetes)
    server.stop()
    wait_for(lambda: not slots(kubernetes), what="the backend to notice")
    with pytest.raises(BackendUnavailableError, match="does not answer"):
        kubernetes.observe()
    with pytest.raises(BackendUnavailableError):
        kubernetes.spawn(make_launch(Layout(tmp_path / "state"), CENSUS, 1, Task.WAITS))
    with pytest.raises(BackendUnavailableError):
        kubernetes.remove(CENSUS)
    again = Server(server.port)
    try:
        again.jobs, again.pods = server.jobs, server.pods
        wait_for(lambda: slots(kubernetes) == {CENSUS}, what="an answer")
    finally:
        kubernetes.close()
        again.stop()
        server.stop = lambda: None  # type: ignore[method-assign]


def test_what_may_not_be_listed(server: Server, kubernetes: KubernetesBackend) -> None:
    """A server that does not let us look is as good as none, and its words say why."""
    server.refuse = lambda what: (403, status(403, "Forbidden", "cannot list"), {}) if what == "list pods" else None
    with pytest.raises(BackendUnavailableError, match="cannot list"):
        kubernetes.observe()


def test_credentials_that_are_not_accepted(server: Server, kubernetes: KubernetesBackend) -> None:
    """That is a problem of the manager, not of any run."""
    server.refuse = lambda _: (401, status(401, "Unauthorized"), {})
    with pytest.raises(BackendUnavailableError, match="credentials"):
        kubernetes.observe()


def test_long_lists_come_in_pages(
    server: Server, kubernetes: KubernetesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them are taken in."""
    monkeypatch.setattr(api, "PAGE", 7)
    for number in range(50):
        server.put("jobs", job(f"j{number}", f"0badcafe-{number}"))
    assert len(kubernetes.observe()) == 50
    assert server.asked["list jobs"] == 8


def test_a_pause_that_the_server_asks_for(server: Server, kubernetes: KubernetesBackend, tmp_path: Path) -> None:
    """429 with Retry-After: the same request goes out again after that time and not before."""
    assert kubernetes.observe() == {}
    refusals = iter([(429, status(429, "TooManyRequests"), {"Retry-After": "1"})])
    server.refuse = lambda what: next(refusals, None) if what == "POST" else None
    begun = time.monotonic()
    kubernetes.spawn(make_launch(Layout(tmp_path / "state"), CENSUS, 1, Task.WAITS))
    assert time.monotonic() - begun >= 1
    assert server.asked["POST"] == 2
    assert kubernetes.observe()[CENSUS].alive


def test_an_unknown_outcome_is_said_to_be_unknown(
    server: Server, kubernetes: KubernetesBackend, tmp_path: Path
) -> None:
    """An error of the server's own leaves open whether the Job exists; its event decides."""
    assert kubernetes.observe() == {}
    launch = make_launch(Layout(tmp_path / "state"), CENSUS, 1, Task.WAITS)
    server.refuse = lambda what: (500, status(500, "InternalError"), {}) if what == "POST" else None
    with pytest.raises(BackendUnavailableError):
        kubernetes.spawn(launch)
    wait_for(lambda: server.watches == 2, what="both watches")
    server.put("jobs", job("census", launch.run), "ADDED")
    wait_for(lambda: slots(kubernetes) == {CENSUS}, what="the event")
    assert kubernetes.observe()[CENSUS].run == launch.run


def test_a_start_that_is_refused_waits(
    server: Server,
    kubernetes: KubernetesBackend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A quota or a missing right is waited for: asked again now and then, said once, and charged to nobody."""
    monkeypatch.setattr(refused_starts, "FIRST_PAUSE", 0.05)
    assert kubernetes.observe() == {}
    layout = Layout(tmp_path / "state")
    quota = 'jobs.batch "x" is forbidden: exceeded quota: team'
    server.refuse = lambda what: (403, status(403, "Forbidden", quota), {}) if what == "POST" else None
    for slot in (CENSUS, OTHER):
        kubernetes.spawn(make_launch(layout, slot, 1, Task.WAITS))
        with pytest.raises(DuplicateRunnerError):
            kubernetes.spawn(make_launch(layout, slot, 2, Task.WAITS))
    wait_for(lambda: bool(kubernetes.observe()) and server.asked["POST"] >= 5, what="further requests")
    found = kubernetes.observe()
    assert {(one.alive, one.reason, one.node_wait) for one in found.values()} == {(True, None, None)}
    assert quota in str(found[CENSUS].message)
    assert caplog.text.count("exceeded quota") == 1
    kubernetes.remove(OTHER)
    assert slots(kubernetes) == {CENSUS}
    server.refuse = lambda _: None
    wait_for(lambda: bool(kubernetes.observe()) and bool(server.jobs), what="the Job")
    assert {one["metadata"]["labels"]["air-executor/job"] for one in server.jobs.values()} == {"census"}
    server.refuse = lambda what: (422, status(422, "Invalid"), {}) if what == "POST" else None
    with pytest.raises(SpawnRejectedError):
        kubernetes.spawn(make_launch(layout, OTHER, 3, Task.WAITS))


def test_the_wait_for_a_node_includes_the_time_of_refusals(tmp_path: Path) -> None:
    """Nothing of the run existed then, so its slot cost nothing."""
    refused = RefusedStarts()
    refused.refuse(make_launch(Layout(tmp_path / "state"), CENSUS, 1, Task.WAITS), "quota", now=100.0)
    refused.created(CENSUS, now=105.0)
    waiting, started = (RunnerStatus("0badcafe-1", alive=True, node_wait=wait) for wait in (1.0, None))
    both = {CENSUS: waiting, OTHER: waiting}
    assert refused.with_wait(both) == {**both, CENSUS: waiting._replace(node_wait=6.0)}
    assert refused.with_wait({CENSUS: started}) == {CENSUS: started}
    refused.drop(CENSUS)
    assert refused.with_wait({CENSUS: waiting}) == {CENSUS: waiting}


def test_a_list_that_is_older_than_what_we_did() -> None:
    """A Job that was created while a list was under way is not taken for gone."""
    cache = RunnerCache(Deadlines(600.0, 600.0, 600.0))
    cache.put_job(job("census", "0badcafe-1"), 1.0)
    cache.begin_list("jobs")
    cache.put_job(job("other", "0badcafe-1"), 2.0)
    cache.apply_jobs([job("census", "0badcafe-1")], 3.0)
    assert {slot for slot, one in cache.statuses(3.0).items() if one.alive} == {CENSUS, OTHER}
    cache.begin_list("jobs")
    cache.apply_jobs([job("census", "0badcafe-1")], 4.0)
    assert {slot for slot, one in cache.statuses(4.0).items() if one.alive} == {CENSUS}


def test_the_rate_limiter_lets_a_burst_through_and_then_one_by_one() -> None:
    """Two seconds' worth at once, later one per interval; a pause holds all."""
    limiter = RateLimiter(10.0)
    assert [limiter.take(100.0) for _ in range(20)] == [0.0] * 20
    assert [round(limiter.take(100.0), 3) for _ in range(3)] == [0.1, 0.2, 0.3]
    limiter.pause(5.0, 101.0)
    assert limiter.take(101.0) == 5.0


def test_a_bad_setting_is_refused_before_anything_is_asked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No claim, no cluster: each says what to set."""
    settings = Settings(state_dir=str(tmp_path))
    with pytest.raises(AirExecutorError, match="AIR_KUBERNETES_CLAIM"):
        make(settings, "0", keeper_of(Layout(tmp_path)))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(AirExecutorError, match="set KUBECONFIG"):
        make(
            settings.model_copy(update={"kubernetes": KubernetesSettings(claim="c")}), "0", keeper_of(Layout(tmp_path))
        )
    assert not server.asked
