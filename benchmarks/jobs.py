"""What a Kubernetes Job costs through us, next to a bare loop that makes the very same Job on the same connection.

The bare side has the same manifests, mounts and runner, in run directories that lie there already; it commits nothing.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import statistics
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from benchmarks.cluster import CLAIM, Ends, JobsPlace, Namespace, image, missing
from benchmarks.place import install_runner
from benchmarks.table import Line, Row, median_ratio

RUNNERS = 8
JOBS = 20
_COUNTED = re.compile(r'^air_executor_backend_requests_total\{(?=.*verb="(\w+)").*\} ([0-9.e+]+)$', re.MULTILINE)


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _requests(port: int) -> Counter[str]:
    """Return how many requests a manager has made of the API server since it started, by verb."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    counted: Counter[str] = Counter()
    for verb, number in _COUNTED.findall(text):
        counted[verb] += int(float(number))
    if not counted:
        raise RuntimeError("the manager tells of no requests to the API server")
    return counted


class Bare:
    """The same Jobs without us."""

    def __init__(self, namespace: Namespace, tasks: int) -> None:
        from air_executor.backends.base import Launch  # noqa: PLC0415 - with what needs the client library
        from air_executor.backends.container.inside import change_owner  # noqa: PLC0415
        from air_executor.backends.kubernetes.api import Propagation  # noqa: PLC0415
        from air_executor.backends.kubernetes.kubernetes_setup import make_cluster_config  # noqa: PLC0415
        from air_executor.backends.kubernetes.manifests import job_manifest  # noqa: PLC0415
        from air_executor.model.names import Slot  # noqa: PLC0415
        from air_executor.runner import native  # noqa: PLC0415
        from air_executor.settings import load  # noqa: PLC0415
        from air_executor.store.layout import Layout  # noqa: PLC0415
        from air_executor.wiring import version  # noqa: PLC0415

        folder = tempfile.mkdtemp(prefix="bare-")
        layout = Layout(f"{folder}/.air-executor")
        env = {
            "AIR_STATE_DIR": layout.root,
            "AIR_RUNNER_IMAGE": image(),
            "AIR_KUBERNETES_CLAIM": CLAIM,
            "AIR_KUBERNETES_SUB_PATH": os.path.relpath(layout.root, namespace.folder),
            "AIR_KUBERNETES_PULL": "never",
            "AIR_KUBERNETES_CPU_REQUEST": "0.01",
            "AIR_KUBERNETES_MEMORY_REQUEST": "1Mi",
        }
        site = make_cluster_config(load({}, env=env, cwd=folder), namespace.name, version())
        install_runner(layout.bin)
        self._api = namespace.api
        self._policy = Propagation.BACKGROUND
        server = self._api.version()
        self.bodies: list[dict[str, Any]] = []
        self.claims: list[str] = []
        """The file of each run that appears when it starts."""
        self.ends: list[str] = []
        """The file of each run that appears when it has ended."""
        uid = secrets.token_hex(4)
        for number in range(tasks):
            job = f"job{number % RUNNERS}"
            workspace, out = layout.workspace(job), layout.run(job, number, "t")
            for path in (workspace, out):
                os.makedirs(path, exist_ok=True)
            run = f"{uid}-{number}"
            launch = Launch(
                Slot(job, 0),
                uid,
                run,
                "t",
                ("true",),
                {"AIR_RUN_ID": run},
                out,
                workspace,
                layout.bin,
                folder,
                machines=native.builds().keys(),
            )
            change_owner(launch, site.user)
            self.bodies.append(job_manifest(site, launch, server))
            self.claims.append(f"{out}/claim")
            self.ends.append(f"{out}/exit.json")

    def run(self, number: int, ends: Ends, *, name: str) -> float:
        """Create a Job, await the end of its Pod and delete it; return when the stream told of the end."""
        body = self.bodies[number]
        made = self._api.create_job({**body, "metadata": {**body["metadata"], "name": name}})["metadata"]
        ended = ends.wait(made["uid"])
        # As we do with a Job whose Pod has ended: its name is free when the server has answered.
        self._api.delete_job(name, made["uid"], self._policy)
        return ended


def _ours(namespace: Namespace, tasks: int, jobs: int, runners: int, **fields: object) -> dict[str, Any]:
    """Run so many times `true`; return the rate, the manager's CPU and memory, and its requests for each task.

    The jobs lie there when the manager starts. The rate is that from its first decision until the last checkpoint.
    """
    port = free_port()
    with JobsPlace(namespace, port, AIR_MAX_RUNNERS=str(runners)) as place:
        names = [f"job{number}" for number in range(jobs)]
        for name in names:
            place.submit(name, [["true"]] * (tasks // jobs), **fields)
        place.start()
        cpu = place.cpu()
        ended = place.wait(names)
        cpu = place.cpu() - cpu
        states = [place.client.status(name) for name in names]
        if any(one.phase != "succeeded" for one in states):
            msg = f"not every job has succeeded:\n{place.log()}"
            raise RuntimeError(msg)
        namespace.settle()  # the deletions of the last Jobs count as well
        requests = _requests(port)
        seconds = ended - min(one.started_at or ended for one in states)
        return {
            "rate": tasks / seconds,
            "seconds": seconds,
            "cpu": cpu / tasks * 1000,
            "memory": place.memory() / 2**20,
            "requests": dict(requests),
            "calls": (requests.total() - requests["watch"]) / tasks,
        }


def _bare(namespace: Namespace, tasks: int) -> float:
    """Return the Jobs per second of the bare loop in as many threads."""
    loop = Bare(namespace, tasks)
    with Ends(namespace).following() as ends:
        begun = time.monotonic()
        with ThreadPoolExecutor(RUNNERS) as pool:
            list(pool.map(lambda number: loop.run(number, ends, name=f"bare-{number}"), range(tasks)))
        seconds = time.monotonic() - begun
    namespace.settle()
    return tasks / seconds


def throughput(*, quick: bool) -> Sequence[Line]:
    """Measure 100 Jobs with `true`, 8 at a time, each time next to the bare loop, and count the manager's requests."""
    tasks, pairs = (20, 1) if quick else (100, 5)
    name = f"Jobs/s, {tasks} x true, {RUNNERS} at a time ÷ bare loop"
    if reason := missing():
        return [Line("kubernetes-throughput", name, None, 0.9, note=reason)]
    mine: list[dict[str, Any]] = []
    theirs: list[float] = []
    with Namespace() as namespace:
        for number in range(pairs):
            # Whoever comes second in a pair has what the first one has left to be cleared away.
            for ours in (True, False) if number % 2 else (False, True):
                if ours:
                    mine.append(_ours(namespace, tasks, JOBS, RUNNERS))
                else:
                    theirs.append(_bare(namespace, tasks))
    rates = [one["rate"] for one in mine]
    note = f"{statistics.median(rates):.2f} to {statistics.median(theirs):.2f} Jobs/s"
    detail = {"ours": mine, "bare": theirs}
    costs = statistics.median(one["cpu"] for one in mine)
    return [
        Line("kubernetes-throughput", name, median_ratio(rates, theirs), 0.9, note=note, detail=detail),
        _calls("kubernetes-throughput", mine[-1], max(one["calls"] for one in mine)),
        Line("kubernetes-throughput", "manager's own CPU, ms a task", costs),
    ]


def _calls(row: str, one: dict[str, Any], calls: float) -> Line:
    by_verb = ", ".join(f"{number} {verb}" for verb, number in sorted(one["requests"].items()))
    name = "requests to the API server a task, without watches, with those of the start"
    return Line(row, name, calls, 3, at_most=True, note=by_verb)


def sequence(*, quick: bool) -> Sequence[Line]:
    """Measure from the end of a Job's Pod, as the server's stream tells it, to the claim of the next run in one job."""
    tasks, pairs = (6, 1) if quick else (12, 7)
    name = "from a pod's end to the next start in one job ÷ bare delete + create + start"
    if reason := missing():
        return [Line("kubernetes-sequence", name, None, 1.15, at_most=True, note=reason)]
    mine: list[float] = []
    theirs: list[float] = []
    whole: list[float] = []
    with Namespace() as namespace:
        for number in range(pairs):
            for ours in (True, False) if number % 2 else (False, True):
                gaps, ends = (_steps if ours else _bare_steps)(namespace, tasks)
                (mine if ours else theirs).append(statistics.median(gaps) * 1000)
                if ours:
                    whole.append(statistics.median(ends) * 1000)
                namespace.settle()
    note = f"{statistics.median(mine):.0f} to {statistics.median(theirs):.0f} ms"
    detail = {"ours": mine, "bare": theirs}
    return [
        Line("kubernetes-sequence", name, median_ratio(mine, theirs), 1.15, at_most=True, note=note, detail=detail),
        Line(
            "kubernetes-sequence",
            "ms from a command's end to the next one's start",
            statistics.median(whole),
            note="with what the node takes to tell of the end",
            detail={"all": whole},
        ),
    ]


def _steps(namespace: Namespace, tasks: int) -> tuple[list[float], list[float]]:
    """Return the seconds from each Pod's end to the next start, and from each command's end to it."""
    with JobsPlace(namespace, 0, AIR_MAX_RUNNERS="1") as place, Ends(namespace).following() as ends:
        place.submit("steps", [["true"]] * tasks)
        place.start()
        place.wait(["steps"])
        state = place.client.status("steps")
        # A start that an old server made nothing of was repeated, and is part of the gap.
        runs = [(task.id, task.attempts[-1].seq) for task in state.tasks.values()]
        outs = [place.layout.run("steps", seq, task) for task, seq in runs]
        seen = {run: at for at, run in ends.seen.values()}
        told = [seen.get(f"{state.uid}-{seq}") for _, seq in runs]
    # The manager may have taken the result file for the end, and deleted the Pod before the node told of it.
    gaps = [_moment(f"{out}/claim") - at for at, out in zip(told, outs[1:], strict=False) if at is not None]
    return gaps, [_moment(f"{b}/claim") - _moment(f"{a}/exit.json") for a, b in pairwise(outs)]


def _bare_steps(namespace: Namespace, tasks: int) -> tuple[list[float], list[float]]:
    """Return the same of the bare loop."""
    loop = Bare(namespace, tasks)
    with Ends(namespace).following() as ends:
        # Each has a name of its own: the Job controller of old servers writes the status of the Job that had the name
        # before into the next one, which then never gets a pod. We start such a run once more; this loop would wait.
        told = [loop.run(number, ends, name=f"bare-{number}") for number in range(tasks)]
    starts = [_moment(path) for path in loop.claims[1:]]
    gaps = [start - at for at, start in zip(told, starts, strict=False)]
    return gaps, [start - _moment(path) for path, start in zip(loop.ends, starts, strict=False)]


def _moment(path: str) -> float:
    return os.stat(path).st_mtime


def idle(*, quick: bool) -> Sequence[Line]:
    """Measure a manager with a Lease and nothing to do: its requests, and its CPU."""
    seconds = 10.0 if quick else 65.0
    name = f"requests of an idle manager in {seconds:g} s, without Lease renewals and watches"
    if reason := missing():
        return [Line("kubernetes-idle", name, None, 0, at_most=True, note=reason)]
    port = free_port()
    with Namespace() as namespace, JobsPlace(namespace, port, AIR_KUBERNETES_LEASE="true") as place:
        place.submit("one", [["true"]])
        place.start()
        place.wait(["one"])
        namespace.settle()
        time.sleep(3)  # until what follows an end is over
        before, cpu = _requests(port), place.cpu_exactly()
        time.sleep(seconds)
        cpu = place.cpu_exactly() - cpu
        made = _requests(port) - before
    others = made.total() - made["update"] - made["watch"]
    note = ", ".join(f"{number} {verb}" for verb, number in sorted(made.items()))
    return [
        Line("kubernetes-idle", name, others, 0, at_most=True, note=note, detail={"requests": dict(made)}),
        Line("kubernetes-idle", "its CPU, % of a core", cpu / seconds * 100, 1, at_most=True, note="with the Lease"),
    ]


def load(*, quick: bool) -> Sequence[Line]:
    """Measure 500 tasks of 50 jobs, 20 at a time: what the control plane carries."""
    tasks, jobs, runners = (40, 10, 10) if quick else (500, 50, 20)
    name = f"Jobs/s, {tasks} x true in {jobs} jobs, {runners} at a time"
    if reason := missing():
        return [Line("kubernetes-load", name, None, note=reason)]
    with Namespace() as namespace:
        one = _ours(namespace, tasks, jobs, runners, max_runners=2)
    return [
        Line("kubernetes-load", name, one["rate"], note=f"{one['seconds']:.0f} s in all", detail=one),
        _calls("kubernetes-load", one, one["calls"]),
        Line("kubernetes-load", "manager's own CPU, ms a task", one["cpu"]),
        Line("kubernetes-load", "its resident memory afterwards, MiB", one["memory"]),
    ]


ROWS = (Row("kubernetes-throughput", throughput), Row("kubernetes-sequence", sequence), Row("kubernetes-idle", idle))
ON_REQUEST = (Row("kubernetes-load", load),)
