"""Cycles among tasks: reported exactly when a job would never end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from air_executor.core.cycles import find_cycle, show_cycle
from tests.conftest import EXAMPLES


@dataclass
class Node:
    """A task as the finder sees it."""

    id: str
    after: Sequence[str] = ()
    queued_by: str | None = None
    when: str = "success"
    phase: str = "queued"


def existing(*nodes: Node) -> dict[str, Node]:
    """Return the tasks of a job by id."""
    return {node.id: node for node in nodes}


# The rules again, as slow and as plain as can be: the judge in the property test.


def ancestors(tasks: dict[str, Node], node: Node) -> set[str]:
    """Return what queued `node`, what queued that, and so on."""
    above = set()
    parent = node.queued_by
    while parent is not None:
        above.add(parent)
        parent = tasks[parent].queued_by
    return above


def tree_ended(tasks: dict[str, Node], root: str) -> bool:
    """Tell whether a task and everything below it has ended."""
    return all(n.phase == "succeeded" for n in tasks.values() if n.id == root or root in ancestors(tasks, n))


def may_start(tasks: dict[str, Node], node: Node) -> bool:
    """Tell whether nothing holds `node` back."""
    if node.after:
        return all(tree_ended(tasks, need) for need in node.after if need not in ancestors(tasks, node))
    if node.when == "success":
        return True
    spared = {n.id for n in tasks.values() if n.when != "success"}
    return all(
        other.phase == "succeeded"
        for other in tasks.values()
        if other.id not in spared and not spared & ancestors(tasks, other)
    )


def gets_stuck(tasks: dict[str, Node]) -> bool:
    """Run everything that may start until nothing does, and tell whether something is left."""
    left = {name: Node(n.id, n.after, n.queued_by, n.when, n.phase) for name, n in tasks.items()}
    moved = True
    while moved:
        moved = False
        for node in left.values():
            if node.phase != "succeeded" and may_start(left, node):
                node.phase = "succeeded"
                moved = True
    return any(node.phase != "succeeded" for node in left.values())


@st.composite
def batch(draw: st.DrawFn, tasks: list[str], first: int) -> list[tuple[str, list[str], str]]:
    """Draw new tasks that wait for existing ones and for each other."""
    names = [f"n{first + number}" for number in range(draw(st.integers(1, 4)))]
    return [
        (
            name,
            draw(st.lists(st.sampled_from([*tasks, *names]), max_size=2, unique=True)),
            draw(st.sampled_from(["success", "success", "success", "always", "failure"])),
        )
        for name in names
    ]


@settings(max_examples=4 * EXAMPLES)
@given(st.data())
def test_a_cycle_is_found_exactly_when_the_job_would_get_stuck(data: st.DataObject) -> None:
    """Jobs grow as they run: each running task queues a batch; the finder and a naive scheduler must agree on each."""
    tasks: dict[str, Node] = {}
    for _ in range(data.draw(st.integers(1, 5))):
        parent: str | None = None
        startable = [n for n in tasks.values() if n.phase != "succeeded" and may_start(tasks, n)]
        if startable and data.draw(st.sampled_from([False, True])):
            parent = data.draw(st.sampled_from([n.id for n in startable]))
        new = [Node(name, after, parent, when) for name, after, when in data.draw(batch(list(tasks), len(tasks)))]
        if parent is not None:
            tasks[parent].phase = "running"
        together = tasks | existing(*new)
        if parent is not None:  # its success is what commits the batch
            together[parent] = Node(
                parent, tasks[parent].after, tasks[parent].queued_by, tasks[parent].when, "succeeded"
            )
        cycle = find_cycle(tasks, new, parent)
        assert (cycle is not None) == gets_stuck(together)
        if cycle is None:
            tasks = together
        else:
            assert cycle[0] == cycle[-1]
            assert len(cycle) > 1
            assert set(cycle) <= set(together)
            if parent is not None:
                tasks[parent].phase = "succeeded"


@pytest.mark.parametrize(
    ("tasks", "new", "parent", "cycle"),
    [
        ([], [Node("a", ["a"])], None, ["a", "a"]),
        ([], [Node("a", ["b"]), Node("b", ["a"])], None, ["a", "b", "a"]),
        ([], [Node("a", ["b"]), Node("b", ["c"]), Node("c", ["a"])], None, ["a", "b", "c", "a"]),
        ([], [Node("a", ["end"]), Node("end", when="always")], None, ["a", "end", "a"]),
        ([Node("y"), Node("x", ["y"])], [Node("z", ["x"])], "y", ["z", "x", "y", "z"]),
        ([Node("y"), Node("m", queued_by="y"), Node("x", ["y"])], [Node("z", ["x"])], "m", ["z", "x", "y", "z"]),
        (
            [Node("p", when="always", phase="succeeded"), Node("a", ["end"], "p"), Node("end", when="always")],
            [Node("outside", ["p"]), Node("x", ["p"])],
            None,
            ["a", "end", "x", "p", "a"],
        ),
    ],
)
def test_the_cycle_names_the_tasks_that_wait(
    tasks: list[Node], new: list[Node], parent: str | None, cycle: list[str]
) -> None:
    """The ids come in order of waiting, the first one again at the end; trees are named by their root."""
    assert find_cycle(existing(*tasks), [Node(n.id, n.after, parent, n.when) for n in new], parent) == cycle


@pytest.mark.parametrize(
    ("tasks", "new", "parent"),
    [
        ([], [Node("a"), Node("b", ["a"]), Node("c", ["a", "b"])], None),
        ([Node("p")], [Node("a", ["p"])], "p"),
        ([Node("g"), Node("p", queued_by="g")], [Node("a", ["g"])], "p"),
        ([Node("y"), Node("x", ["y"], phase="succeeded")], [Node("z", ["x"])], None),
        ([Node("end", when="always", phase="succeeded")], [Node("a", ["end"])], None),
        ([Node("y")], [Node("end", when="always")], "y"),
        ([], [Node("a", ["gone"])], None),
    ],
)
def test_what_will_end_is_no_cycle(tasks: list[Node], new: list[Node], parent: str | None) -> None:
    """One's own ancestors, tasks that have succeeded, and clean-up tasks hold nobody for ever."""
    assert find_cycle(existing(*tasks), [Node(n.id, n.after, parent, n.when) for n in new], parent) is None


def test_a_chain_of_fifty_thousand_is_no_problem() -> None:
    """Neither recursion nor quadratic time: a long chain of trees, and one that closes it."""
    chain = [Node("n0")] + [Node(f"n{i}", [f"n{i - 1}"]) for i in range(1, 50_000)]
    began = time.process_time()
    assert find_cycle({}, chain, None) is None
    assert find_cycle(existing(*chain), [Node("last", ["n49999"], "n0")], "n0") is not None
    assert time.process_time() - began < 60
    deep = [Node("n0")] + [Node(f"n{i}", queued_by=f"n{i - 1}") for i in range(1, 50_000)]
    assert find_cycle(existing(*deep), [Node("last", ["n1"], "n49999")], "n49999") is None


def test_nothing_is_looked_at_when_nothing_new_waits() -> None:
    """The usual case costs nothing in a job of any size: the tasks that exist are not even read."""
    assert find_cycle({"broken": None}, [Node("a"), Node("b")], "broken") is None  # type: ignore[dict-item]
    fan_in = [Node("a"), Node("b"), Node("merge", ["a", "b", "broken"])]
    assert find_cycle({"broken": None}, fan_in, "broken") is None  # type: ignore[dict-item]


def test_a_long_cycle_is_shortened() -> None:
    """A message stays readable however long the cycle is."""
    assert show_cycle(["a", "b", "a"]) == "a -> b -> a"
    assert show_cycle("abcdefghijkl") == "a -> b -> c -> d -> e -> f -> g -> h -> i -> j -> k -> l"
    assert show_cycle("abcdefghijklm") == "a -> b -> c -> d -> e -> f -> g -> h -> i -> j -> ... 1 more ... -> l -> m"
    ids = [f"n{i}" for i in range(1000)]
    assert show_cycle([*ids, "n0"]).endswith("n9 -> ... 989 more ... -> n999 -> n0")
