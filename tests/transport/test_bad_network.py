"""A network that delays, and breaks connections in the middle of requests and answers: all of a run comes, and once."""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from air_executor.runner.carrier.__main__ import CANNOT
from air_executor.store.run_tokens import LIFETIME, RunTokens
from tests.lanes import NIGHTLY
from tests.transport.proxy import Proxy, Trouble
from tests.transport.rig import PATIENCE, Site, soon

pytestmark = pytest.mark.transport

SEEDS = range(20 if NIGHTLY else 3)
LINES = 3000
REFUSAL = "the manager refuses: the token of the run is not valid, or has expired"
PRINTS = f"""
import os, time
queue = open(os.environ["AIR_QUEUE"], "a", buffering=1)
for number in range({LINES}):
    print(f"line {{number}} " + "x" * (number % 50), flush=number % 10 == 0)
    if number % 30 == 0:
        queue.write('{{"id": "q%d", "command": "true"}}\\n' % number)
        time.sleep(0.01)
for number in range(50):
    with open(f"made-{{number}}", "w") as file:
        file.write(str(number) * number)
os.mkdir("new"); os.rename("old/deep", "new/deep"); os.rmdir("old")
with open(os.environ["AIR_RESULT"], "w") as file:
    file.write("[1, 2, 3]")
"""


@pytest.fixture
def through(site: Site) -> Iterator[Callable[[int], Proxy]]:
    """Return what makes a proxy in front of the manager."""
    made: list[Proxy] = []

    def one(seed: int) -> Proxy:
        made.append(Proxy(site.port, seed))
        return made[-1]

    yield one
    for proxy in made:
        proxy.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_or_doubled(site: Site, through: Callable[[int], Proxy], seed: int) -> None:
    """Output and queued lines are complete and in order, the workspace is as the task left it, the outcome there once.

    The manager is also away for a while, as at an upgrade.
    """
    proxy = through(seed)
    launch = site.begin()
    top = site.workspace(launch)
    (top / "old/deep").mkdir(parents=True)
    content = random.Random(seed).randbytes(300_000)
    (top / "old/deep/file").write_bytes(content)
    pod = site.pod(launch, port=proxy.port)

    proxy.bring(Trouble(share=0.6, most=200_000, delay=0.002))
    assert pod.fetch() == 0, pod.said("fetch")
    assert (pod.workspace / "old/deep/file").read_bytes() == content
    proxy.bring(Trouble(share=0.8, most=3000, delay=0.002))
    delivering = pod.carrier("deliver")
    Path(pod.root, "prints.py").write_text(PRINTS, encoding="ascii")
    running = pod.run("exec python3 -S ../prints.py")
    soon(lambda: site.out(launch, "output.log"), "the first output")
    site.be_away()
    site.serve()
    assert running.wait(PATIENCE) == 0
    assert delivering.wait(PATIENCE) == 0, pod.said()
    proxy.bring(Trouble())

    printed = "".join(f"line {number} " + "x" * (number % 50) + "\n" for number in range(LINES))
    assert site.out(launch, "output.log").decode() == printed
    queued = [json.loads(line)["id"] for line in site.out(launch, "queue.jsonl").splitlines()]
    assert queued == [f"q{number}" for number in range(0, LINES, 30)]
    assert (top / "new/deep/file").read_bytes() == content
    assert not (top / "old").exists()
    assert [(top / f"made-{number}").read_text() for number in range(50)] == [str(n) * n for n in range(50)]
    assert len(site.out(launch, "exit.json").splitlines()) == 1
    assert not [name for name in os.listdir(launch.out_dir) if name.startswith((".", "claim."))]
    site.commit(launch)
    task = site.world.task("job", "a")
    assert (task.phase, task.result) == ("succeeded", [1, 2, 3])
    assert len(site.world.job("job").tasks) == 1 + len(queued)


def test_a_workspace_that_was_cut_is_no_workspace(site: Site) -> None:
    """An answer that ends early, between two files and without any sign of it, is fetched again.

    So it is where what lies between speaks HTTP/1.0, and takes the end of a connection for the end of the answer.
    """
    launch = site.begin()
    for number in range(20):
        (site.workspace(launch) / f"f{number}").write_text(str(number))
    headers = {"Authorization": f"Bearer {site.token(launch)}", "Air_Holder": "pod"}
    assert site.ask("POST", "claim", b"", **headers).status == 204
    whole = site.ask("GET", "workspace", b"", **headers).body
    answers = [whole[: 1024 * length] for length in (0, 1, 7)] + [whole]
    old = _OldProxy(site.port, answers)
    try:
        pod = site.pod(launch, port=old.port)
        assert pod.fetch() == 0, pod.said("fetch")
    finally:
        old.close()
    assert old.answers == []
    assert len(os.listdir(pod.workspace)) == 20
    assert "has broken off" in pod.said("fetch") or "ReadError" in pod.said("fetch")


class _OldProxy:
    """Answers requests for the workspace from a list, without saying how long the answers are; passes on the rest."""

    def __init__(self, port: int, answers: list[bytes]) -> None:
        self.answers = answers

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                if self.path.endswith("/workspace"):
                    status, found = 200, answers.pop(0)
                else:
                    connection = http.client.HTTPConnection("127.0.0.1", port)
                    connection.request(self.command, self.path, body, dict(self.headers))
                    answer = connection.getresponse()
                    status, found = answer.status, answer.read()
                    connection.close()
                self.send_response(status)
                self.end_headers()
                self.wfile.write(found)

            do_GET = do_POST = _any  # noqa: N815 - as it is called

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_a_token_that_ends(site: Site) -> None:
    """A run whose token has ended is refused, says why, and is no success; its repeat commits what it queued."""
    script = "echo said; ../bin/air-queue --id next true; echo 1 >$AIR_RESULT"
    launch = site.begin()
    pod = site.pod(launch)
    assert pod.fetch() == 0
    os.unlink(site.layout.run_key)
    site.be_away()
    site.serve()
    delivering = pod.carrier("deliver")
    assert pod.run(script).wait(PATIENCE) == 0
    assert delivering.wait(PATIENCE) == CANNOT
    assert pod.said().splitlines()[-1] == f"air-carrier: {REFUSAL}"
    site.commit(launch, 0)
    task = site.world.task("job", "a")
    assert (task.attempts[-1].reason, task.result) == ("lost", None)

    launch = site.started("job", "a")
    assert site.pod(launch, "again").live(script) == 0
    site.commit(launch)
    task = site.world.task("job", "a")
    assert (task.phase, task.result, len(task.attempts)) == ("succeeded", 1, 2)
    assert sorted(site.world.job("job").tasks) == ["a", "next"]


@pytest.mark.parametrize(
    ("ahead", "is_valid"), [(10 * LIFETIME, True), (-0.6 * LIFETIME, True), (-1.1 * LIFETIME, False)]
)
def test_a_clock_that_has_jumped(site: Site, ahead: float, *, is_valid: bool) -> None:
    """A token of a manager whose clock was ahead is good; one of a clock far behind has expired, and that is told."""
    launch = site.begin()
    token = RunTokens(site.layout).make(site.address(launch), time.time() + ahead)
    pod = site.pod(launch, env={"AIR_CARRIER_TOKEN": token})
    if is_valid:
        assert pod.live("echo said") == 0, pod.said()
        assert site.out(launch, "output.log") == b"said\n"
    else:
        assert pod.fetch() == CANNOT
        assert pod.said("fetch") == f"air-carrier: {REFUSAL}\n"
        assert site.out(launch, "claim") == b""
