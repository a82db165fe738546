"""What one trial of the crash campaign does, drawn from its seed: jobs, requests, and who is killed after how long.

The same seed gives the same plan; what the machine makes of it differs from run to run, so a failing seed may have to
be repeated a few times.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

RETRIES = 50
"""User's retries of each task: more than a trial can kill."""

OVER_HTTP = "kubernetes-http"
"""Kubernetes, with pods that see no volume."""
TARGETS: dict[str, Sequence[str]] = {
    "local": ("manager", "manager", "manager", "runner", "task", "group", "both"),
    "docker": ("manager", "manager", "manager", "runner", "inside", "removed", "both", "silence", "break"),
    "kubernetes": (
        *("manager",) * 6,
        *("runner", "inside", "pod", "pod", "job", "job", "both"),
        *("silence", "break", "slow", "busy", "error", "swallow", "cut", "mute", "expire"),
    ),
}
TARGETS |= {
    OVER_HTTP: (*TARGETS["kubernetes"], "carrier", "carrier", "drop", "drop", "cutoff", "tokens", "full", "full")
}
"""Who is killed, by backend; the manager is who has most to lose."""

KIT: Mapping[str, Mapping[str, Any]] = {
    "local": {"workdir": "kit"},
    "docker": {
        "workdir": "/kit",
        "mounts": [{"source": "kit", "target": "/kit", "read_only": True}],
        "network": "none",
    },
    "kubernetes": {"workdir": "/kit"},
    OVER_HTTP: {"workdir": "/kit", "env": {"CRASH_MARKS": "/marks"}},
}
"""How a task finds its script and what it is to queue, which lie in the folder `kit` of the project.

And where it marks what it does, if its workspace is not shared with tasks that run at the same time."""

PAUSES: Mapping[str, Sequence[Sequence[float]]] = {
    "local": ((0.01, 0.05, 0.15, 0.3), (0.002, 0.005, 0.01, 0.03)),
    "docker": ((0.1, 0.3, 0.8, 1.5), (0.002, 0.01, 0.05, 0.2)),
    "kubernetes": ((0.5, 1, 2, 4), (0.01, 0.05, 0.2, 0.5)),
    OVER_HTTP: ((0.5, 1, 2, 4), (0.01, 0.05, 0.2, 0.5)),
}
"""Seconds between two blows: as long as tasks take to start and end, or short ones, which hit recovery."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much a trial holds."""

    steps: tuple[int, int] = (2, 8)
    runners: tuple[int, ...] = (1, 2, 4)
    children: tuple[int, ...] = (1, 2, 3)
    """How many tasks the first one of a job queues."""
    depth: int = 3
    """How deep these queue further ones."""
    fails: tuple[str, ...] = ("0", "0", "0", "1", "2")
    """How many runs of a task fail."""
    seconds: tuple[str, ...] = ("0", "0", "0.01", "0.05", "0.3")
    """How long a task takes at least."""
    items: tuple[int, ...] = (0, 1, 3, 6)
    """How many items the list of a result has."""
    ticks: tuple[int, ...] = (0, 1, 4)
    """How many runs of a schedule are due."""


_SMALL = Size((2, 4), (2, 4), (0, 1, 1), 1, (*"000001",), ("0", "0.3", "1", "2"), (0, 2), (0, 1))
SIZES: Mapping[str, Size] = {"kubernetes": _SMALL, OVER_HTTP: _SMALL}
"""By backend, where it is not the usual one: a pod takes a second or two, and what runs is told once a second."""

RESTARTS: dict[str, Sequence[str]] = {"docker": ("engine",), "kubernetes": ("apiserver", "etcd")}
RESTARTS |= {OVER_HTTP: RESTARTS["kubernetes"]}
"""What of a platform can be restarted, for all who use it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One act of the adversary."""

    after: float
    """Seconds since the last step, or since the manager has been at work."""
    working: bool
    """Wait until the manager is at work first; otherwise the blow may fall while it starts."""
    target: str
    choice: float
    """Picks one of those that are there, 0 to 1."""
    add: tuple[str, str] | None = None
    """A job and the label of a task that is added to it first."""


@dataclass(slots=True)
class Trial:
    """One trial."""

    seed: int
    backend: str = "local"
    jobs: list[dict[str, Any]] = field(default_factory=list)
    """As users write them."""
    queues: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """What the task with each label queues."""
    labels: dict[str, list[str]] = field(default_factory=dict)
    """For each job, the labels that must be there in the end, each once."""
    items: dict[str, list[str]] = field(default_factory=dict)
    """The list that the task with each label has as a part of its result."""
    joined: dict[str, str] = field(default_factory=dict)
    """The child job that a job waits for."""
    ticks: int = 0
    """Times of the schedule `tick` that have passed without a run when the trial begins."""
    steps: list[Step] = field(default_factory=list)
    max_runners: int = 4
    events: bool = True
    poll_interval: float = 0.1
    faults: float = 0.0
    """Probability that a call of the store fails."""

    def task(self, label: str, *, seconds: str = "0", fails: str = "0", straggler: str = "0") -> dict[str, Any]:
        """Return the task with this label; see `task.sh` for the rest."""
        command = ["./task.sh", label, seconds, fails, straggler]
        return {"command": command, "retries": RETRIES, "grace": 1, **KIT[self.backend]}

    @property
    def merges(self) -> dict[str, set[str]]:
        """For each label of a merge, the labels whose results it must have been given."""
        children = {job: self.labels[child] for job, child in self.joined.items()}
        return {
            f"{job}-merge": {name for name in labels if not name.startswith(f"{job}-added") and name != f"{job}-merge"}
            | {*children.get(job, ())}
            for job, labels in self.labels.items()
            if f"{job}-merge" in labels
        }


def draw(seed: int, faults: float = 0.0, backend: str = "local", restarts: float = 0.0) -> Trial:
    """Return the trial of a seed; `restarts` is the probability that the platform is restarted in it."""
    chance, size = random.Random(seed), SIZES.get(backend, Size())
    trial = Trial(seed, backend, faults=faults)
    trial.max_runners = chance.choice(size.runners)
    trial.events = chance.random() < 0.5
    trial.poll_interval = chance.choice((0.02, 0.1))
    for name, runners in (("seq", 1), ("par", 3)):
        trial.labels[name] = []
        root = _tree(trial, chance, name, f"{name}-root", depth=0)
        merge = _task(trial, chance, f"{name}-merge") | {"id": f"{name}-merge", "after": [f"{name}-root"]}
        trial.labels[name].append(f"{name}-merge")
        late = {"late_after": chance.choice((0.5, 3600))}
        trial.jobs.append({"id": name, "max_runners": runners, "tasks": [root, merge], **late})
    if chance.random() < 0.5:
        child: dict[str, Any] = {"id": "kid", "tasks": [_task(trial, chance, f"kid-{n}") for n in range(2)]}
        trial.labels["kid"] = ["kid-0", "kid-1"]
        parent = chance.choice(["seq", "par"])
        trial.queues.setdefault(f"{parent}-root", []).append({"job": child})
        if chance.random() < 0.5:
            trial.queues[f"{parent}-root"][-1]["join"] = True
            trial.joined[parent] = "kid"
    _draw_list(trial, chance)
    if backend == "local" and chance.random() < 0.3:  # each in a checkout of its own
        trial.labels["tree"] = ["tree-0", "tree-1"]
        tasks = [_task(trial, chance, label) | {"id": label, "worktree": {}} for label in trial.labels["tree"]]
        trial.jobs.append({"id": "tree", "max_runners": 2, "tasks": tasks})
    if chance.random() < 0.3:  # one of them at a time, from its first start to its end
        for made in trial.jobs:
            made["lock"] = "all"
    trial.ticks = chance.choice(size.ticks)
    pauses = chance.choice(PAUSES[backend])
    for number in range(chance.randint(*size.steps)):
        pause = chance.choice(pauses) * (0.2 + chance.random())
        added = None
        if chance.random() < 0.4:
            job = chance.choice(("seq", "par"))
            added = (job, f"{job}-added-{number}")
            trial.labels[job].append(added[1])
        working = added is not None or chance.random() < 0.5
        trial.steps.append(Step(pause, working, chance.choice(TARGETS[backend]), chance.random(), added))
    if chance.random() < restarts:
        number = chance.randrange(len(trial.steps))
        trial.steps[number] = replace(trial.steps[number], target=chance.choice(RESTARTS[backend]))
    return trial


def _draw_list(trial: Trial, chance: random.Random) -> None:
    """Add a job whose first task finds a list, with a task for each item, and one that waits for all of them."""
    size = SIZES.get(trial.backend, Size())
    items = [str(number) for number in range(chance.choice(size.items))]
    root, merge = _task(trial, chance, "map-root") | {"id": "map-root"}, _task(trial, chance, "map-merge")
    each = {"id": "map-each", "after": ["map-root"], "for_each": "{{ results.map-root.items }}"}
    each |= _task(trial, chance, "map-{{ item }}")
    trial.items["map-root"] = items
    trial.labels["map"] = ["map-root", "map-merge", *(f"map-{item}" for item in items)]
    tasks = [root, each, merge | {"id": "map-merge", "after": ["map-each"]}]
    trial.jobs.append({"id": "map", "max_runners": 2, "tasks": tasks})


def _tree(trial: Trial, chance: random.Random, job: str, label: str, depth: int) -> dict[str, Any]:
    trial.labels[job].append(label)
    task = _task(trial, chance, label)
    if chance.random() < 0.7:  # the others are named by the manager
        task["id"] = label
    if depth == 0:
        task["id"] = label
    size = SIZES.get(trial.backend, Size())
    children = chance.choice(size.children) if depth == 0 else chance.choice((0, 0, 1, 2)) if depth < size.depth else 0
    lines = [_tree(trial, chance, job, f"{label}-{n}", depth + 1) for n in range(children)]
    if lines:
        trial.queues.setdefault(label, []).extend(lines)
    return task


def _task(trial: Trial, chance: random.Random, label: str) -> dict[str, Any]:
    size = SIZES.get(trial.backend, Size())
    seconds = chance.choice(size.seconds)
    fails = chance.choice(size.fails)
    straggler = chance.choice("00000000001123")
    task = trial.task(label, seconds=seconds, fails=fails, straggler=straggler)
    if chance.random() < 0.3:  # what would be a failure is a wish to run again, which takes no retry
        task |= {"again_on": [1], "again_delay": 0.05}
    return task
