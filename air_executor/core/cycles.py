"""Tasks that would wait for each other for ever, found before they are accepted.

Asked at submit, at `add`, and when the tasks that a run queued are committed. `after` waits for whole trees: a cycle
can close through one: x waits for y, and y's child waits for x. The rules are those of `progress.Progress.readiness`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

DEFAULT_WHEN = "success"


class Node(Protocol):
    """What is asked of a task."""

    @property
    def after(self) -> Sequence[str]:
        """Ids of the tasks whose trees it waits for."""

    @property
    def queued_by(self) -> str | None:
        """Id of the task that queued it."""

    @property
    def when(self) -> str:
        """On which outcome of what it waits for it runs."""

    @property
    def phase(self) -> str:
        """Its phase; one that has succeeded waits for nothing any more."""


class NewNode(Node, Protocol):
    """A task that is not accepted yet."""

    @property
    def id(self) -> str:
        """Its id, or the one it will get."""


class _Step(NamedTuple):
    """A node of the graph: the end of a task, of its whole tree, or (no task) of all tasks without a `when`."""

    task: str | None
    tree: bool = False


_ALL = _Step(None)


def find_cycle(tasks: Mapping[str, Node], new: Sequence[NewNode], parent: str | None) -> list[str] | None:
    """Return the ids of tasks that would wait for each other, the first one again at the end, or None.

    `tasks` are those that exist, among which there is no cycle; `new` would be queued by the task `parent`. Takes time
    in proportion to all tasks, but only to the new ones while they wait for none of the others. Ids that name no task
    are ignored.
    """
    waiting = [task for task in new if task.after or task.when != DEFAULT_WHEN]
    if not waiting:
        return None
    near = {task.id for task in new} | {parent}
    if all(task.after and near.issuperset(task.after) for task in waiting):
        tasks = {}  # what is new waits only for what is new: the common fan-in costs nothing in a large job
    graph = _Graph(tasks, new, parent)
    done: set[_Step] = set()
    for task in waiting:
        cycle = _cycle_from(_Step(task.id), graph, done)
        if cycle is not None:
            return _named(cycle)
    return None


def show_cycle(ids: Sequence[str]) -> str:
    """Return a cycle as a message shows it: `a -> b -> a`, shortened in the middle if it is long."""
    most = 12
    shown = list(ids) if len(ids) <= most else [*ids[: most - 2], f"... {len(ids) - most} more ...", *ids[-2:]]
    return " -> ".join(shown)


class _Graph:
    """What each step waits for. Ancestry is answered from the order in which a walk enters and leaves the trees."""

    def __init__(self, tasks: Mapping[str, Node], new: Sequence[NewNode], parent: str | None) -> None:
        self._nodes: dict[str, Node] = {**tasks, **{task.id: task for task in new}}
        self._parent = {name: node.queued_by for name, node in tasks.items()} | {task.id: parent for task in new}
        self._children: dict[str, list[str]] = {}
        for name, above in self._parent.items():
            if above is not None:
                self._children.setdefault(above, []).append(name)
        self._enter: dict[str, int] = {}
        self._leave: dict[str, int] = {}
        self._plain: list[str] = []
        self._walk()

    def _walk(self) -> None:
        count = 0
        stack = [(name, False) for name, above in self._parent.items() if above is None or above not in self._nodes]
        spared: set[str] = set()  # tasks with a `when`, and their trees
        while stack:
            name, leaving = stack.pop()
            count += 1
            if leaving:
                self._leave[name] = count
                continue
            self._enter[name] = count
            if self._nodes[name].when != DEFAULT_WHEN or self._parent[name] in spared:
                spared.add(name)
            else:
                self._plain.append(name)
            stack.append((name, True))
            stack += [(child, False) for child in self._children.get(name, ())]

    def _is_above(self, above: str, name: str) -> bool:
        return self._enter[above] < self._enter[name] < self._leave[above]

    def needs(self, step: _Step) -> Iterator[_Step]:
        """Yield what must happen before `step` can."""
        if step.task is None:
            for name in self._plain:
                yield _Step(name)
            return
        if step.tree:
            yield _Step(step.task)
            for child in self._children.get(step.task, ()):
                yield _Step(child, tree=True)
            return
        node = self._nodes[step.task]
        if node.phase == "succeeded":
            return
        if node.after:
            for need in node.after:
                if need in self._nodes and not self._is_above(need, step.task):
                    yield _Step(need, tree=True)
        elif node.when != DEFAULT_WHEN:
            yield _ALL


def _cycle_from(start: _Step, graph: _Graph, done: set[_Step]) -> list[_Step] | None:
    """Search depth first without recursion (chains are as long as tasks queue them); `done` lead to no cycle."""
    if start in done:
        return None
    path = [start]
    on_path = {start}
    open_needs = [graph.needs(start)]
    while path:
        step = next(open_needs[-1], None)
        if step is None:
            open_needs.pop()
            on_path.discard(path[-1])
            done.add(path.pop())
        elif step in on_path:
            return [*path[path.index(step) :], step]
        elif step not in done:
            path.append(step)
            on_path.add(step)
            open_needs.append(graph.needs(step))
    return None


def _named(cycle: Sequence[_Step]) -> list[str]:
    """Keep the tasks that wait and those that they name; leave out how a tree leads from one to the other."""
    steps = list(cycle[:-1])
    first = next(n for n, step in enumerate(steps) if step.task is not None and not step.tree)
    steps = steps[first:] + steps[:first]
    names: list[str] = []
    waits = False  # whether the step before was a task's own end, so that this one was asked for by name
    for step in steps:
        if step.task is not None and (not step.tree or waits) and (not names or names[-1] != step.task):
            names.append(step.task)
        waits = not step.tree
    return names if len(names) > 1 and names[0] == names[-1] else [*names, names[0]]
