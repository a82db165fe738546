"""What a container costs through us, next to a bare loop of the SDK that makes the same container.

The bare side has the same options, mounts and runner, in run directories that lie there already; it commits nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from benchmarks.meter import Meter
from benchmarks.place import Place, install_runner
from benchmarks.table import Line, Row, median_ratio

RUNNERS = 4
JOBS = 20


def missing() -> str | None:
    """Return why containers cannot be measured, or None."""
    try:
        import docker  # noqa: PLC0415 - not everybody has it
        import docker.errors  # noqa: PLC0415
    except ImportError:
        return "the Docker SDK is not installed: pip install 'air-executor[docker]'"
    if not os.environ.get("DOCKER_HOST", "").startswith("unix://"):
        return "DOCKER_HOST does not name the unix socket of a Docker Engine"
    from air_executor.backends.container.inside import DEFAULT_IMAGE  # noqa: PLC0415

    try:
        with contextlib.closing(_client()) as client:
            client.inspect_image(DEFAULT_IMAGE)
    except docker.errors.ImageNotFound:
        return f"the engine has no image {DEFAULT_IMAGE}: docker pull {DEFAULT_IMAGE}"
    except docker.errors.DockerException as error:
        return f"the engine does not answer: {error}"
    return None


def _client() -> Any:  # noqa: ANN401 - the SDK may be missing
    import docker  # noqa: PLC0415
    from docker.utils import kwargs_from_env  # noqa: PLC0415

    return docker.APIClient(version="auto", timeout=120, **kwargs_from_env())


class Containers(Place):
    """A place whose runners are containers; none of them is left when the `with` ends."""

    def __init__(self, **settings: str) -> None:
        self.prefix = f"b{secrets.token_hex(4)}"
        super().__init__(AIR_BACKEND="docker", AIR_NAME_PREFIX=self.prefix, AIR_DOCKER_NETWORK="air-bench", **settings)

    def stop(self) -> None:
        """Stop the manager, and remove what it leaves, as it would leave it for the next one."""
        super().stop()
        with contextlib.closing(_client()) as client:
            for one in client.containers(all=True, filters={"name": [f"^/{self.prefix}-"]}):
                client.remove_container(one["Id"], force=True)


class Bare:
    """The same containers without us."""

    def __init__(self, tasks: int, *command: str) -> None:
        from air_executor.backends.base import Launch  # noqa: PLC0415 - with what needs the SDK
        from air_executor.backends.docker.container_spec import container_config  # noqa: PLC0415
        from air_executor.backends.docker.docker_setup import make_engine_config  # noqa: PLC0415
        from air_executor.backends.docker.engine import Engine  # noqa: PLC0415
        from air_executor.backends.docker.images import ImageFacts  # noqa: PLC0415
        from air_executor.model.names import Slot  # noqa: PLC0415
        from air_executor.runner import native  # noqa: PLC0415
        from air_executor.settings import load  # noqa: PLC0415
        from air_executor.store.layout import Layout  # noqa: PLC0415
        from air_executor.wiring import version  # noqa: PLC0415

        folder = tempfile.mkdtemp(prefix="bare-")
        layout = Layout(f"{folder}/.air-executor")
        self.prefix = f"b{secrets.token_hex(4)}"
        flags = {"state_dir": layout.root, "name_prefix": self.prefix, "docker.network": "air-bench"}
        engine = Engine(120)
        site = make_engine_config(load(flags, env={}, cwd=folder), engine, version())
        engine.ensure_network(site.settings.network)
        engine.close()
        install_runner(layout.bin)
        self.bodies: list[dict[str, Any]] = []
        self.outs: list[str] = []
        """Folders of the runs."""
        for number in range(tasks):
            workspace, out = layout.workspace(f"job{number % RUNNERS}"), layout.run("job", number, "t")
            for path in (workspace, out):
                os.makedirs(path, exist_ok=True)
                if os.geteuid() == 0:
                    os.chown(path, *site.user)
            self.outs.append(out)
            launch = Launch(
                Slot(f"job{number % RUNNERS}", 0),
                "0badcafe",
                f"0badcafe-{number}",
                "t",
                command or ("true",),
                {"AIR_RUN_ID": f"0badcafe-{number}"},
                out,
                workspace,
                layout.bin,
                folder,
                machines=native.builds().keys(),
            )
            self.bodies.append(container_config(site, launch, ImageFacts(native.this_machine())))
        self._mine = threading.local()

    def run(self, number: int) -> float:
        """Create, start, await and remove one container; return the seconds of all but the wait."""
        client = getattr(self._mine, "client", None)
        if client is None:
            client = self._mine.client = _client()
        begun = time.monotonic()
        made = client.create_container_from_config(self.bodies[number], name=f"{self.prefix}-{number}")["Id"]
        client.start(made)
        waiting = time.monotonic()
        client.wait(made)
        ended = time.monotonic()
        client.remove_container(made, v=True)
        return time.monotonic() - begun - (ended - waiting)


def start(*, quick: bool) -> Sequence[Line]:
    """Measure from the request to start a container to the first instruction of its task, with and without runner."""
    pairs = 5 if quick else 41
    name = "from a container's start to its task's first instruction, ms more than the bare command"
    if reason := missing():
        return [Line("docker-start", name, None, 5, at_most=True, note=reason)]
    begun = "/air/out/begun"
    loop = Bare(2 * pairs, "touch", begun)
    taken: tuple[list[float], list[float]] = ([], [])
    with contextlib.closing(_client()) as client:
        for number, body in enumerate(loop.bodies):
            bare_one = number % 2
            described = {**body, "Entrypoint": ["touch"], "Cmd": [begun]} if bare_one else body
            made = client.create_container_from_config(described, name=f"{loop.prefix}-{number}")["Id"]
            asked = time.time()
            client.start(made)
            client.wait(made)
            client.remove_container(made, v=True)
            # Both clocks are this machine's: its kernel stamps the file.
            taken[bare_one].append((os.stat(f"{loop.outs[number]}/begun").st_mtime - asked) * 1000)
    more = statistics.median(with_runner - without for with_runner, without in zip(*taken, strict=True))
    note = f"{statistics.median(taken[0]):.0f} to {statistics.median(taken[1]):.0f} ms"
    detail = {"runner": taken[0], "bare": taken[1]}
    return [Line("docker-start", name, more, 5, at_most=True, note=note, detail=detail)]


def ours(tasks: int) -> tuple[float, float]:
    """Return containers per second, and the manager's own CPU in milliseconds per task, as `throughput` does."""
    with Containers(AIR_MAX_RUNNERS=str(RUNNERS)) as place:
        names = [f"job{number}" for number in range(JOBS)]
        for name in names:
            place.submit(name, [["true"]] * (tasks // JOBS))
        place.start()
        cpu = place.cpu()
        ended = place.wait(names)
        cpu = place.cpu() - cpu
        begun = min(place.client.status(name).started_at or ended for name in names)
        return tasks / (ended - begun), cpu / tasks * 1000


def bare(tasks: int) -> float:
    """Return the containers per second of the SDK in as many threads."""
    loop = Bare(tasks)
    begun = time.monotonic()
    with ThreadPoolExecutor(RUNNERS) as pool:
        list(pool.map(loop.run, range(tasks)))
    return tasks / (time.monotonic() - begun)


def throughput(*, quick: bool) -> Sequence[Line]:
    """Measure 200 containers with `true` in 20 jobs, 4 at a time, each time next to the bare loop."""
    tasks, pairs = (40, 1) if quick else (200, 5)
    if reason := missing():
        return [Line("docker-throughput", "containers/s ÷ bare SDK loop", None, 0.9, note=reason)]
    mine, costs, theirs = [], [], []
    for _ in range(pairs):
        rate, cost = ours(tasks)
        mine.append(rate)
        costs.append(cost)
        theirs.append(bare(tasks))
    note = f"{statistics.median(mine):.2f} to {statistics.median(theirs):.2f} containers/s"
    detail = {"ours": mine, "bare": theirs, "cpu": costs}
    return [
        Line(
            "docker-throughput",
            f"containers/s, {tasks} x true, {RUNNERS} at a time ÷ bare SDK loop",
            median_ratio(mine, theirs),
            0.9,
            note=note,
            detail=detail,
        ),
        Line("docker-throughput", "manager's own CPU, ms a container", statistics.median(costs), 15, at_most=True),
    ]


def sequence(*, quick: bool) -> Sequence[Line]:
    """Measure from the end of a container to the start of the next in one job; the engine's events tell when."""
    tasks, pairs = (10, 1) if quick else (15, 11)
    if reason := missing():
        return [Line("docker-sequence", "gap ÷ bare remove + create + start", None, 1.15, at_most=True, note=reason)]
    mine, theirs = [], []
    for _ in range(pairs):
        with Containers(AIR_MAX_RUNNERS="1") as place, _events(place.prefix) as seen:
            place.submit("steps", [["true"]] * tasks)
            place.start()
            place.wait(["steps"])
        mine.append(statistics.median(_gaps(seen)))
        loop = Bare(tasks)
        theirs.append(statistics.median(loop.run(number) for number in range(tasks)) * 1000)
    note = f"{statistics.median(mine):.0f} to {statistics.median(theirs):.0f} ms"
    return [
        Line(
            "docker-sequence",
            "from die to the next start in one job ÷ bare remove + create + start",
            median_ratio(mine, theirs),
            1.15,
            at_most=True,
            note=note,
            detail={"ours": mine, "bare": theirs},
        )
    ]


@contextlib.contextmanager
def _events(prefix: str) -> Iterator[list[tuple[str, float]]]:
    """Collect the engine's events of containers of this prefix as (what, milliseconds)."""
    seen: list[tuple[str, float]] = []
    client = _client()
    stream = client.events(decode=True, filters={"type": ["container"], "event": ["die", "start"]})

    def collect() -> None:
        seen.extend(
            (event["Action"], event["timeNano"] / 1e6)
            for event in stream
            if event["Actor"]["Attributes"]["name"].startswith(f"{prefix}-")
        )

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        yield seen
    finally:
        stream.close()
        thread.join()
        client.close()


def _gaps(seen: Sequence[tuple[str, float]]) -> list[float]:
    return [at - before for (first, before), (second, at) in pairwise(seen) if (first, second) == ("die", "start")]


def idle(*, quick: bool) -> Sequence[Line]:
    """Measure a manager whose 100 containers run: its CPU, and what it asks of the engine."""
    running, seconds = (10, 5.0) if quick else (100, 65.0)
    figure = f"manager with {running} running containers: CPU, % of a core"
    if reason := missing():
        return [Line("docker-idle", figure, None, 1, at_most=True, note=reason)]
    with (
        Meter(os.environ["DOCKER_HOST"].removeprefix("unix://")) as meter,
        Containers(AIR_MAX_RUNNERS=str(running), DOCKER_HOST=meter.address) as place,
    ):
        place.submit("sleepers", [{"command": ["sleep", "600"], "grace": 1}] * running, max_runners=running)
        place.start()
        _await(lambda: sum(one["State"] == "running" for one in _list(place.prefix)) == running, place)
        time.sleep(2)  # until what follows a start is over
        asked, cpu = len(meter.asked), place.cpu_exactly()
        time.sleep(seconds)
        cpu = place.cpu_exactly() - cpu
        requests = meter.asked[asked:]
    return [
        Line("docker-idle", figure, cpu / seconds * 100, 1, at_most=True, note=f"over {seconds:g} s"),
        Line(
            "docker-idle",
            f"its requests to the engine in {seconds:g} s",
            len(requests),
            5,
            at_most=True,
            note="lists of all containers",
            detail={"requests": requests},
        ),
    ]


def _list(prefix: str) -> list[dict[str, Any]]:
    with contextlib.closing(_client()) as client:
        found: list[dict[str, Any]] = client.containers(all=True, filters={"name": [f"^/{prefix}-"]})
        return found


def _await(reached: Callable[[], bool], place: Place) -> None:
    until = time.monotonic() + 300
    while not reached():
        if time.monotonic() > until:
            msg = f"the containers do not start:\n{place.log()}"
            raise RuntimeError(msg)
        time.sleep(0.5)


ROWS = (
    Row("docker-throughput", throughput),
    Row("docker-sequence", sequence),
    Row("docker-start", start),
    Row("docker-idle", idle),
)
