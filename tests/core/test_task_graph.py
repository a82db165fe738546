"""The graph of a job: every task is in it once, arrows lead forward, and large jobs are folded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from air_executor.core.submission import initial_state, parse_job
from air_executor.core.task_graph import MOST_NODES, TaskGraph, task_graph
from air_executor.model.state import JobState
from air_executor.web.graph_layout import NODE_HEIGHT, placed


def _job(tasks: Sequence[dict[str, Any]], queued_by: dict[str, str] | None = None) -> JobState:
    spec = parse_job({"id": "j", "tasks": [{"command": "true", **task} for task in tasks]})
    state = initial_state(spec, uid="0a1b2c3d", now=1000.0)
    for name, parent in (queued_by or {}).items():
        state.tasks[name].queued_by = parent
    return state


def _arrows(graph: TaskGraph) -> set[tuple[str, str, str]]:
    names = [node.name for node in graph.nodes]
    return {(names[edge.source], names[edge.target], edge.kind) for edge in graph.edges}


def test_what_waits_for_a_tree_waits_for_its_ends() -> None:
    """`after` means a task and everything it queued: the arrows come from the ends of the tree."""
    job = _job(
        [{"id": "find"}, {"id": "a"}, {"id": "b"}, {"id": "b1"}, {"id": "merge", "after": ["find"]}, {"id": "alone"}],
        {"a": "find", "b": "find", "b1": "b"},
    )
    graph = task_graph(job)
    assert _arrows(graph) == {
        ("find", "a", "queued"),
        ("find", "b", "queued"),
        ("b", "b1", "queued"),
        ("a", "merge", "after"),
        ("b1", "merge", "after"),
    }
    assert {node.name: node.layer for node in graph.nodes} == {
        "find": 0, "alone": 0, "a": 1, "b": 1, "b1": 2, "merge": 3,
    }  # fmt: skip


def test_alike_tasks_are_one_node() -> None:
    """A wide job shows one node with counts, and what differs stays apart."""
    many = [{"id": f"load-{n}", "after": ["plan"]} for n in range(5000)]
    job = _job([{"id": "plan"}, *many, {"id": "other", "after": ["load-7"]}])
    graph = task_graph(job)
    assert _arrows(graph) == {("plan", "load-…", "after"), ("load-…", "other", "after")}
    assert next(node for node in graph.nodes if node.name == "load-…").counts == {"queued": 5000}


def test_tasks_of_a_list_are_one_node() -> None:
    """A list of three is a group already."""
    job = _job(
        [
            *({"id": name, "group": "load"} for name in ("eu", "us", "ap")),
            {"id": "sum", "after": ["eu", "us", "ap"]},
        ]
    )
    graph = task_graph(job)
    assert _arrows(graph) == {("load", "sum", "after")}


def test_a_chain_is_cut() -> None:
    """A chain of thousands of tasks has as many columns as can be looked at, and loses no task."""
    tasks = [{"id": f"t{n}", "after": [f"t{n - 1}"] if n else []} for n in range(5000)]
    graph = task_graph(_job(tasks))
    assert 20 <= len(graph.nodes) <= 40
    assert sum(len(node.tasks) for node in graph.nodes) == 5000
    assert len(graph.edges) == len(graph.nodes) - 1


@st.composite
def _jobs(draw: st.DrawFn) -> JobState:
    count = draw(st.integers(1, 50))
    tasks: list[dict[str, Any]] = []
    queued_by = {}
    for n in range(count):
        known = st.integers(max(0, n - draw(st.integers(1, 40))), n - 1) if n else st.nothing()
        after = draw(st.lists(known, max_size=3, unique=True)) if n else []
        tasks.append({"id": f"t{n}", "after": [f"t{m}" for m in after]})
        if n and draw(st.booleans()):
            queued_by[f"t{n}"] = f"t{draw(known)}"
    return _job(tasks, queued_by)


@given(_jobs())
def test_any_job(job: JobState) -> None:
    """No task is lost or shown twice, arrows lead to later columns, and no two nodes overlap.

    Also where tasks of a tree wait for what waits for the tree.
    """
    graph = task_graph(job)
    assert Counter(task.id for node in graph.nodes for task in node.tasks) == dict.fromkeys(job.tasks, 1)
    assert len(graph.nodes) <= MOST_NODES
    for edge in graph.edges:
        assert graph.nodes[edge.source].layer < graph.nodes[edge.target].layer
    drawn = placed(graph)
    columns: dict[float, list[float]] = {}
    for node in drawn.nodes:
        assert 0 <= node.y <= drawn.height - NODE_HEIGHT
        columns.setdefault(node.x, []).append(node.y)
    for column in columns.values():
        assert all(upper + NODE_HEIGHT <= lower for upper, lower in pairwise(sorted(column)))
