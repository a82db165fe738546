"""What goes wrong at the gate to an API server, seen by our own client; the server behind it is one in miniature."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from air_executor.backends.kubernetes.api import Api, jobs
from air_executor.backends.kubernetes.api_connection import ExpiredError
from air_executor.errors import BackendUnavailableError
from tests.conftest import wait_for
from tests.crash import apigate
from tests.crash.apigate import ApiGate, Trouble
from tests.kubernetes.server import Server, job

JOBS = jobs("here")
TIMEOUT = 0.5


@pytest.fixture
def server() -> Iterator[Server]:
    """An API server in miniature."""
    ready = Server()
    yield ready
    ready.stop()


@pytest.fixture
def gate(server: Server) -> Iterator[ApiGate]:
    """A gate before it."""
    ready = ApiGate(apigate.Server(f"http://127.0.0.1:{server.port}"))
    yield ready
    ready.close()


@pytest.fixture
def api(gate: ApiGate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Our client, which knows the gate alone."""
    gate.write_config(str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    ready = Api("here", TIMEOUT, 1000)
    yield ready
    ready.close()


class Watch:
    """A watch that a thread reads to its end."""

    def __init__(self, api: Api, *, silence: float = 60.0) -> None:
        self.names: list[str] = []
        self.error: Exception | None = None
        self._watch = api.watch(JOBS, "", "1", seconds=60, silence=silence)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return not self._thread.is_alive()

    def _read(self) -> None:
        try:
            with self._watch as events:
                self.names += (event["object"]["metadata"]["name"] for event in events)
        except (ExpiredError, BackendUnavailableError) as error:
            self.error = error


def names(api: Api) -> list[Any]:
    """Return the names of all Jobs."""
    return [one["metadata"]["name"] for one in api.list(JOBS, "")[0]]


def open_watch(api: Api, server: Server, *, silence: float = 60.0) -> Watch:
    """Return a watch that has brought an event."""
    watch = Watch(api, silence=silence)
    wait_for(lambda: server.watches, what="the watch to be open")
    server.put("jobs", job("one", "r-1"))
    wait_for(lambda: watch.names, what="an event")
    return watch


def test_without_trouble(gate: ApiGate, server: Server, api: Api) -> None:
    """Requests and streams pass."""
    api.create_job({"metadata": {"name": "air-new", "labels": {}}})
    assert names(api) == ["air-new"]
    watch = open_watch(api, server)
    server.break_off()
    wait_for(lambda: watch.ended, what="the watch to end with the server's")
    assert watch.names == ["air-one"]


def test_refusals_never_reach_the_server(gate: ApiGate, server: Server, api: Api) -> None:
    """An injected status is what our client sees, also with a pause that is asked for; afterwards all is well."""
    gate.bring(Trouble(statuses=(503,)))
    with pytest.raises(BackendUnavailableError, match="503 injected by the gate"):
        api.create_job({"metadata": {"name": "air-new"}})
    gate.bring(Trouble(statuses=(429,), retry_after=99))
    with pytest.raises(BackendUnavailableError, match="429 injected by the gate"):
        api.create_job({"metadata": {"name": "air-new"}})
    assert not server.asked
    gate.relent()
    wait = Api("here", TIMEOUT, 1000)
    try:
        assert names(wait) == []
    finally:
        wait.close()


def test_a_swallowed_answer(gate: ApiGate, server: Server, api: Api) -> None:
    """The server has done what it was asked for, and our client does not hear of it."""
    gate.bring(Trouble(swallow=True))
    with pytest.raises(BackendUnavailableError, match="does not answer"):
        api.create_job({"metadata": {"name": "air-new", "labels": {}}})
    gate.relent()
    assert names(api) == ["air-new"]


def test_latency_and_silence(gate: ApiGate, server: Server, api: Api) -> None:
    """An answer that comes too late is none, and neither is one that never comes."""
    gate.bring(Trouble(latency=1000))
    with pytest.raises(BackendUnavailableError, match="does not answer"):
        names(api)
    gate.shut()
    with pytest.raises(BackendUnavailableError, match="does not answer"):
        names(api)
    gate.relent()
    assert names(api) == []


def test_expired_streams(gate: ApiGate, server: Server, api: Api) -> None:
    """An open stream ends with the error that its version is too old, and a new one is refused with it."""
    watch = open_watch(api, server)
    gate.bring(Trouble(expire=True))
    wait_for(lambda: watch.ended, what="the watch to end")
    assert isinstance(watch.error, ExpiredError)
    refused = Watch(api)
    wait_for(lambda: refused.ended, what="the refusal")
    assert isinstance(refused.error, ExpiredError)
    assert names(api) == ["air-one"]


def test_a_stream_is_cut(gate: ApiGate, server: Server, api: Api) -> None:
    """It ends in the middle of an event, which our client then has not seen."""
    watch = open_watch(api, server)
    gate.bring(Trouble(cut=True))
    server.put("jobs", job("two", "r-2"))
    wait_for(lambda: watch.ended, what="the watch to end")
    assert (watch.names, watch.error) == (["air-one"], None)


def test_a_mute_stream(gate: ApiGate, server: Server, api: Api) -> None:
    """It brings nothing any more, also when the trouble is over; requests are answered, and our client gives it up."""
    watch = open_watch(api, server, silence=1.0)
    gate.bring(Trouble(mute=True))
    gate.relent()
    server.put("jobs", job("two", "r-2"))
    assert names(api) == ["air-one", "air-two"]
    wait_for(lambda: watch.ended, what="our client to give it up")
    assert (watch.names, watch.error) == (["air-one"], None)


def test_slammed(gate: ApiGate, server: Server, api: Api) -> None:
    """Streams end at once; a new request gets in."""
    watch = open_watch(api, server)
    gate.slam()
    wait_for(lambda: watch.ended, what="the watch to end")
    assert names(api) == ["air-one"]
