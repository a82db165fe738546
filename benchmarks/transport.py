"""What it costs that a pod has no volume: tasks with their files over HTTP, next to a claim that pods mount."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.cluster import JobsPlace, Namespace, missing
from benchmarks.jobs import RUNNERS, free_port
from benchmarks.table import Line, Row, median_ratio

JOBS = 8


def _measure(namespace: Namespace, tasks: int, *, over_http: bool) -> dict[str, Any]:
    """Run so many times `true`; return the rate, and the median seconds before and after the command of a run."""
    settings = {}
    port = free_port()
    if over_http:
        # The node is this machine, so its address is that of the manager.
        url = f"http://{namespace.node_address()}:{port}"
        settings = {
            "AIR_HTTP_HOST": "0.0.0.0",  # noqa: S104 - pods shall reach it
            "AIR_KUBERNETES_TRANSPORT": "http",
            "AIR_KUBERNETES_TRANSPORT_URL": url,
        }
    with JobsPlace(namespace, port, AIR_MAX_RUNNERS=str(RUNNERS), **settings) as place:
        names = [f"job{number}" for number in range(JOBS)]
        for name in names:
            place.submit(name, [["true"]] * (tasks // JOBS))
        place.start()
        cpu = place.cpu()
        ended = place.wait(names)
        cpu = place.cpu() - cpu
        states = [place.client.status(name) for name in names]
    namespace.settle()
    if any(one.phase != "succeeded" for one in states):
        raise RuntimeError("not every job has succeeded")
    attempts = [task.attempts[-1] for state in states for task in state.tasks.values()]
    return {
        "rate": tasks / (ended - min(one.started_at or ended for one in states)),
        "start": statistics.median(one.start for one in attempts),
        "finish": statistics.median(one.finish for one in attempts),
        "cpu": cpu / tasks * 1000,
    }


def transport(*, quick: bool) -> Sequence[Line]:
    """Measure Jobs with `true`, 8 at a time, their files over HTTP, each time next to the volume."""
    tasks, pairs = (16, 1) if quick else (64, 5)
    name = f"Jobs/s, {tasks} x true, {RUNNERS} at a time, files over HTTP ÷ on a volume"
    if reason := missing():
        return [Line("kubernetes-transport", name, None, 0.9, note=reason)]
    http: list[dict[str, Any]] = []
    volume: list[dict[str, Any]] = []
    with Namespace() as namespace:
        for number in range(pairs):
            for over_http in (True, False) if number % 2 else (False, True):
                (http if over_http else volume).append(_measure(namespace, tasks, over_http=over_http))
    rates = [[one["rate"] for one in side] for side in (http, volume)]
    note = " to ".join(f"{statistics.median(one):.2f}" for one in rates) + " Jobs/s"
    lines = [
        Line(
            "kubernetes-transport", name, median_ratio(*rates), 0.9, note=note, detail={"http": http, "volume": volume}
        )
    ]
    more = [a["start"] + a["finish"] - b["start"] - b["finish"] for a, b in zip(http, volume, strict=True)]
    parts = []
    for part in ("start", "finish"):
        middle = [statistics.median(one[part] for one in side) for side in (http, volume)]
        parts.append(f"{part} {middle[0]:.2f} to {middle[1]:.2f} s")
    lines.append(
        Line(
            "kubernetes-transport",
            "ms more before and after the command of a run",
            statistics.median(more) * 1000,
            300,
            at_most=True,
            note=", ".join(parts),
        )
    )
    lines.append(
        Line("kubernetes-transport", "manager's own CPU, ms a task", statistics.median(one["cpu"] for one in http))
    )
    return lines


ON_REQUEST = (Row("kubernetes-transport", transport),)
