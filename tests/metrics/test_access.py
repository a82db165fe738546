"""Who is let in, what the probes say, and what happens where the port is taken: over real sockets."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from air_executor.core.observer import Snapshot
from air_executor.errors import BadInputError
from air_executor.metrics.collector import Collector, ManagerInfo
from air_executor.metrics.health import START_PATIENCE
from air_executor.settings import DEFAULT, Settings, load
from air_executor.web.asgi import make_app
from air_executor.web.server_process import listen
from air_executor.wiring import make_service
from tests.metrics import rig
from tests.metrics.rig import get

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what is told to the access rules; it listens on loopback
LOOKED = Snapshot(answers=True, last_contact=None, removing=())


def serving(collector: Collector, *, host: str = "127.0.0.1", token: str | None = None) -> AbstractContextManager[int]:
    """Serve metrics, probes and a page; return the port."""
    page = Route("/", lambda _: PlainTextResponse("page"))
    return rig.serving(make_app(collector.scrape, collector.health, [page], host=host, token=token))


@pytest.fixture
def collector() -> Collector:
    """The metrics of a manager that has not started yet."""
    return Collector(ManagerInfo("test", "fake", max_runners=4, baseline_pool=2), lambda: None)


def statuses(port: int, headers: dict[str, str] | None = None) -> list[int]:
    """Return the statuses of page, metrics and a probe."""
    return [get(port, path, headers).status for path in ("/", "/metrics", "/healthz")]


def test_the_format_is_prometheus_plain_text(collector: Collector) -> None:
    """Also for a client that accepts OpenMetrics, in which `tasks` and `tasks_total` clash."""
    with serving(collector) as port:
        for accept in ("*/*", "application/openmetrics-text; version=1.0.0"):
            answer = get(port, "/metrics", {"Accept": accept})
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert "# TYPE air_executor_tasks gauge\n" in answer.body
            assert "# TYPE air_executor_tasks_total counter\n" in answer.body


def test_on_loopback_all_is_open(collector: Collector) -> None:
    """Whoever is on this machine needs nothing."""
    with serving(collector) as port:
        assert statuses(port) == [200, 200, 200]


@pytest.mark.parametrize(
    "name",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "",
        "localhost.evil.example:80",
        "[::1].evil.example",
        "[::1]:80.evil.example",
        "localhost:evil",
    ],
)
def test_a_foreign_name_is_refused(collector: Collector, name: str) -> None:
    """A page elsewhere cannot make a browser read this server under a name of its own; probes need no name."""
    with serving(collector) as port:
        assert statuses(port, {"Host": name}) == [421, 421, 200]


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:9464", "127.0.0.1", "[::1]:9464"])
def test_own_names_are_ours(collector: Collector, name: str) -> None:
    """Whatever people call this machine."""
    with serving(collector) as port:
        assert statuses(port, {"Host": name}) == [200, 200, 200]


def test_from_elsewhere_only_metrics_are_open(collector: Collector) -> None:
    """The page shows what tasks print; without a token it is not for everybody."""
    with serving(collector, host=EVERYWHERE) as port:
        assert statuses(port) == [403, 200, 200]
        assert "AIR_TOKEN" in get(port, "/").body


@pytest.mark.parametrize("host", ["127.0.0.1", EVERYWHERE])
@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer s3cret", 200),
        ("bearer s3cret", 200),
        ("Basic YW55Ym9keTpzM2NyZXQ=", 200),
        ("Basic czNjcmV0", 401),
        ("Basic %%%", 401),
        ("Bearer wrong", 401),
        ("Bearer", 401),
        ("Digest s3cret", 401),
        ("", 401),
    ],
)
def test_the_token(collector: Collector, host: str, header: str, status: int) -> None:
    """As a bearer's or as a password; wherever it listens, for all but probes."""
    with serving(collector, host=host, token="s3cret") as port:  # noqa: S106 - of this test
        assert statuses(port, {"Authorization": header} if header else None) == [status, status, 200]


def test_probes_tell_how_it_is(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting and standing by is healthy and not ready, working is both, hanging is neither; the words say which."""
    with serving(collector) as port:
        found = get(port, "/readyz")
        assert (found.status, get(port, "/healthz").status) == (503, 200)
        assert "starting" in found.body
        collector.stands_by()
        assert "stands by" in get(port, "/readyz").body
        collector.holds()
        assert "not checked" in get(port, "/readyz").body
        collector.polled(LOOKED)
        assert (get(port, "/readyz").status, get(port, "/healthz").status) == (200, 200)
        collector.polled(replace(LOOKED, answers=False))
        found = get(port, "/readyz")
        assert (found.status, get(port, "/healthz").status) == (503, 200)
        assert "backend fake does not answer" in found.body
        collector.polled(LOOKED)
        pass_time(monkeypatch, collector.about.patience + 1)
        assert (get(port, "/readyz").status, get(port, "/healthz").status) == (503, 503)
        assert "no sign of life" in get(port, "/healthz").body


def test_a_start_may_take_longer(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand jobs are read before the first cycle."""
    pass_time(monkeypatch, collector.about.patience + 1)
    assert collector.health.hangs() is None
    pass_time(monkeypatch, collector.about.patience * START_PATIENCE)
    assert collector.health.hangs() is not None


def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let seconds pass for probes."""
    now = time.monotonic() + seconds
    monkeypatch.setattr("air_executor.metrics.health.time", SimpleNamespace(monotonic=lambda: now))


def test_a_port_that_was_asked_for_must_be_free(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Otherwise the manager does not start, and says which one it is."""
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        asked = load({"state_dir": str(tmp_path_factory.mktemp("s"))}, {"AIR_HTTP_PORT": str(port)})
        with pytest.raises(BadInputError, match=f"port {port}"):
            make_service(asked)


def test_a_default_port_that_is_taken_is_a_warning(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """Two managers on a laptop are no reason for the second not to work."""
    with listen("127.0.0.1", 0) as taken, caplog.at_level(logging.WARNING):
        port = taken.getsockname()[1]
        plain = load({"state_dir": str(tmp_path_factory.mktemp("s"))}, {}).model_copy(update={"http_port": port})
        assert plain.sources["http_port"] == DEFAULT
        assert make_service(plain) is None
    assert f"port {port}" in caplog.text


def test_port_zero_is_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No thread, no import, no port."""
    assert make_service(Settings(state_dir=str(tmp_path_factory.mktemp("s")), http_port=0)) is None
