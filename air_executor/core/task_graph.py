"""A job's tasks as a graph that can be looked at: which task queued which, and which waits for which.

Large jobs are folded: tasks that were queued by the same task and wait for the same tasks become one node with counts,
as do the tasks of a list. What remains has at most about `MOST_NODES` nodes, however many tasks the job has. No
recursion: a chain can be as long as a job.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from air_executor.core.task_groups import TaskGroup, counts_text
from air_executor.model.state import JobState, TaskPhase, TaskState

MOST_NODES = 120
"""More are not legible on a screen."""
MOST_LAYERS = 40
"""Columns of a graph that was cut into pieces."""
MOST_LINES = 400
"""From this number on, a task that waits for a whole tree is drawn with one line to the tree's root."""
_FOLD_FROM = (12, 8, 4, 2)
"""Number of alike tasks from which on they are one node: the first that leaves few enough nodes."""
_GROUP_FROM = 3
"""The same for the tasks of one list."""

EdgeKind = Literal["queued", "after"]


@dataclass(slots=True)
class GraphNode:
    """A task, or several alike."""

    tasks: list[TaskState]
    layer: int = 0
    """Number of its column: everything that it waits for, and what queued it, is in earlier ones."""

    @property
    def id(self) -> str:
        """Identifies it in its graph: the id of its first task."""
        return self.tasks[0].id

    @property
    def name(self) -> str:
        """What people call it: the task's id, the name of the group, or how the ids begin."""
        first = self.tasks[0]
        if len(self.tasks) == 1:
            return first.id
        if first.group is not None and all(task.group == first.group for task in self.tasks):
            return first.group
        return _common(task.id for task in self.tasks) or f"{first.id} …"

    @property
    def phase(self) -> TaskPhase:
        """The most urgent phase of its tasks."""
        return TaskGroup("", self.tasks).phase

    @property
    def counts(self) -> Counter[str]:
        """How many of its tasks are in which phase."""
        return Counter(task.phase for task in self.tasks)

    @property
    def text(self) -> str:
        """How it stands, in words: `59 ✓ 3 ✗`."""
        return self.tasks[0].phase if len(self.tasks) == 1 else counts_text(self.counts)


@dataclass(frozen=True, slots=True, order=True)
class GraphEdge:
    """An arrow from one node to another, by their places in the list of nodes."""

    source: int
    target: int
    kind: EdgeKind


@dataclass(slots=True)
class TaskGraph:
    """Nodes, each after those that lead to it, and the arrows between them."""

    nodes: list[GraphNode] = field(default_factory=list)
    edges: list[GraphEdge] = field(default_factory=list)

    @property
    def layers(self) -> int:
        """Number of columns."""
        return 1 + max((node.layer for node in self.nodes), default=-1)


@dataclass(slots=True)
class _Tasks:
    """The tasks to draw, in an order in which each comes after those that it depends on."""

    sorted: list[TaskState]
    parents: dict[str, str]
    after: dict[str, list[str]]


def task_graph(job: JobState) -> TaskGraph:
    """Return the graph of a job's tasks; attempts that `rerun` has replaced are left out."""
    tasks = _sorted(job)
    levels = _levels(tasks)
    # Tasks of different levels are never one node.
    for least in _FOLD_FROM if len(levels) <= MOST_NODES else _FOLD_FROM[-1:]:
        found = _folded(tasks, levels, least)
        if len(found.nodes) <= MOST_NODES:
            return found
    return _cut(found)


def _sorted(job: JobState) -> _Tasks:
    shown = {task.id: task for task in job.tasks.values() if not task.superseded}
    parents = {task.id: task.queued_by for task in shown.values() if task.queued_by in shown}
    after = {task.id: [name for name in task.after if name in shown and name != task.id] for task in shown.values()}
    waits = {name: len(after[name]) + (name in parents) for name in shown}
    leads: dict[str, list[str]] = {}
    for name in shown:
        for source in (*after[name], *([parents[name]] if name in parents else [])):
            leads.setdefault(source, []).append(name)
    ready = deque(name for name, count in waits.items() if not count)
    order: dict[str, TaskState] = {}
    while ready:
        name = ready.popleft()
        order[name] = shown[name]
        for target in leads.get(name, ()):
            waits[target] -= 1
            if not waits[target]:
                ready.append(target)
    # Tasks that wait for each other, which no job file can say, come last, without what they wait for.
    rest = [task for name, task in shown.items() if name not in order]
    for task in rest:
        parents.pop(task.id, None)
        after[task.id] = [name for name in after[task.id] if name in order]
    return _Tasks([*order.values(), *rest], parents, after)


def _folded(tasks: _Tasks, levels: list[list[TaskState]], least: int) -> TaskGraph:
    """Return the graph in which at least this number of alike tasks are one node."""
    graph = TaskGraph()
    places: dict[str, int] = {}
    for level in levels:
        alike: dict[tuple[int | None, frozenset[int], str | None], list[TaskState]] = {}
        for task in level:
            parent = tasks.parents.get(task.id)
            waits = frozenset(places[name] for name in tasks.after[task.id])
            alike.setdefault((None if parent is None else places[parent], waits, task.group), []).append(task)
        for (_, _, group), members in alike.items():
            folds = len(members) >= (least if group is None else min(least, _GROUP_FROM))
            for part in [members] if folds else [[task] for task in members]:
                places |= dict.fromkeys([task.id for task in part], len(graph.nodes))
                graph.nodes.append(GraphNode(part))
    _connect(graph, tasks, places)
    return graph


def _levels(tasks: _Tasks) -> list[list[TaskState]]:
    """Return the tasks by the length of the longest way to them: alike tasks are on one level."""
    levels: list[list[TaskState]] = []
    found: dict[str, int] = {}
    for task in tasks.sorted:
        sources = [*tasks.after[task.id], *([tasks.parents[task.id]] if task.id in tasks.parents else [])]
        level = found[task.id] = max((found[name] + 1 for name in sources), default=0)
        if level == len(levels):
            levels.append([])
        levels[level].append(task)
    return levels


def _connect(graph: TaskGraph, tasks: _Tasks, places: dict[str, int]) -> None:
    """Add the arrows between nodes, and the columns."""
    queued = {(places[parent], places[name]) for name, parent in tasks.parents.items()}
    waits = {(places[source], places[name]) for name in places for source in tasks.after[name]}
    below: dict[int, list[int]] = {}
    for source, target in sorted(queued):
        below.setdefault(source, []).append(target)
    ends = {source: _leaves(source, below) for source in {source for source, _ in waits}}
    if sum(len(ends[source]) for source, _ in waits) > MOST_LINES or not _arranged(graph, queued, waits, ends):
        # Too many lines, or a task in a tree waits for what waits for the tree.
        _arranged(graph, queued, waits, {source: [source] for source in ends})


def _leaves(root: int, below: dict[int, list[int]]) -> list[int]:
    """Return the ends of a tree: `after` waits for all of it."""
    found, stack, seen = [], [root], {root}
    while stack:
        node = stack.pop()
        if node not in below:
            found.append(node)
        for child in below.get(node, ()):
            if child not in seen:
                seen.add(child)
                stack.append(child)
    return found


def _arranged(
    graph: TaskGraph, queued: set[tuple[int, int]], waits: set[tuple[int, int]], ends: dict[int, list[int]]
) -> bool:
    """Add the arrows, and put the nodes in columns; False if the arrows form a cycle."""
    after = {(end, target) for source, target in waits for end in ends[source]} - queued
    graph.edges = sorted(
        [GraphEdge(*pair, "queued") for pair in queued] + [GraphEdge(*pair, "after") for pair in after]
    )
    leads: dict[int, list[int]] = {}
    open_arrows = Counter(edge.target for edge in graph.edges)
    for edge in graph.edges:
        leads.setdefault(edge.source, []).append(edge.target)
    layers = [0] * len(graph.nodes)
    ready = deque(place for place in range(len(graph.nodes)) if not open_arrows[place])
    reached = 0
    while ready:
        place = ready.popleft()
        reached += 1
        for target in leads.get(place, ()):
            layers[target] = max(layers[target], layers[place] + 1)
            open_arrows[target] -= 1
            if not open_arrows[target]:
                ready.append(target)
    for node, layer in zip(graph.nodes, layers, strict=True):
        node.layer = layer
    return reached == len(graph.nodes)


def _cut(graph: TaskGraph) -> TaskGraph:
    """Return a graph with few columns of one node each: for long chains, and for what is too tangled to be folded."""
    width = -(-graph.layers // MOST_LAYERS)
    pieces: dict[int, GraphNode] = {}
    for node in sorted(graph.nodes, key=lambda node: node.layer):
        layer = node.layer // width
        pieces.setdefault(layer, GraphNode([], layer)).tasks.extend(node.tasks)
    order = sorted(pieces)
    places = {layer: place for place, layer in enumerate(order)}
    pairs: dict[tuple[int, int], EdgeKind] = {}
    for edge in graph.edges:
        pair = tuple(places[graph.nodes[place].layer // width] for place in (edge.source, edge.target))
        if pair[0] < pair[1] <= pair[0] + 1:
            pairs.setdefault((pair[0], pair[1]), edge.kind)
    return TaskGraph(
        [pieces[layer] for layer in order], [GraphEdge(*pair, kind) for pair, kind in sorted(pairs.items())]
    )


def _common(names: Iterable[str]) -> str:
    """Return how all names begin, up to a mark between words; empty if they begin differently."""
    found: str | None = None
    for name in names:
        if found is None:
            found = name
        while not name.startswith(found):
            found = found[:-1]
        if not found:
            return ""
    text = found or ""
    cut = max(text.rfind(mark) for mark in "-_.")
    return f"{text[: cut + 1]}…" if cut > 0 else f"{text}…" if text else ""
