"""Where the nodes and arrows of a job's graph are drawn: columns by dependency, from left to right.

Pure; `graph.svg` draws it. All lengths are pixels at the picture's natural size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from air_executor.core.task_graph import EdgeKind, GraphNode, TaskGraph
from air_executor.web.render import brief
from air_executor.web.views import PhaseShare, shares_of

NODE_WIDTH = 168
NODE_HEIGHT = 28
COLUMN_GAP = 64
ROW_GAP = 9
MARGIN = 8
POINT_SIZE = 0.4
"""Rows that an arrow needs where it passes a column."""
MOST_POINTS = 1000
"""If long arrows pass more columns than this, they are straight lines behind the nodes."""
LONGEST_NAME = 19
"""Characters of a name that fit a node."""
_SWEEPS = 4
"""Passes over all columns: each moves nodes nearer to those that they are connected with."""
_LONGEST_TITLE = 300


@dataclass(frozen=True, slots=True)
class PlacedNode:
    """A task, or several alike, and its upper left corner."""

    id: str
    name: str
    """Cut to the width of a node."""
    title: str
    phase: str
    count: int
    shares: Sequence[PhaseShare]
    """How its tasks stand; empty for a single task."""
    search: str
    """What finds its tasks in the table; empty if nothing common does."""
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class PlacedEdge:
    """An arrow, as the path of a curve."""

    id: str
    kind: EdgeKind
    path: str


@dataclass(slots=True)
class PlacedGraph:
    """What to draw, and how large it is."""

    width: float = 0
    height: float = 0
    nodes: list[PlacedNode] = field(default_factory=list)
    edges: list[PlacedEdge] = field(default_factory=list)
    node_width: int = NODE_WIDTH
    node_height: int = NODE_HEIGHT


@dataclass(frozen=True, slots=True)
class _Slots:
    """What takes a place in a column: the nodes, and behind them the points where a long arrow passes a column."""

    columns: list[list[int]]
    sizes: list[float]
    """In rows."""
    ways: list[list[int]]
    """For each arrow, the slots that it goes through, its two nodes among them."""


def placed(graph: TaskGraph) -> PlacedGraph:
    """Return the picture of a graph; empty if there is nothing to see in it but separate nodes."""
    if not graph.edges:
        return PlacedGraph()
    slots = _slots(graph)
    pitch = NODE_HEIGHT + ROW_GAP
    middles = [MARGIN + NODE_HEIGHT / 2 + row * pitch for row in _rows(slots)]
    lefts = [0.0] * len(middles)
    for layer, column in enumerate(slots.columns):
        for slot in column:
            lefts[slot] = MARGIN + layer * (NODE_WIDTH + COLUMN_GAP)
    nodes = [
        _node(node, lefts[place], round(middles[place] - NODE_HEIGHT / 2, 1)) for place, node in enumerate(graph.nodes)
    ]
    return PlacedGraph(
        width=2 * MARGIN + graph.layers * NODE_WIDTH + (graph.layers - 1) * COLUMN_GAP,
        height=round(max(middles) + NODE_HEIGHT / 2 + MARGIN, 1),
        nodes=nodes,
        edges=[
            PlacedEdge(f"{nodes[edge.source].id}--{nodes[edge.target].id}", edge.kind, _curve(way, lefts, middles))
            for edge, way in zip(graph.edges, slots.ways, strict=True)
        ],
    )


def _slots(graph: TaskGraph) -> _Slots:
    columns: list[list[int]] = [[] for _ in range(graph.layers)]
    for place, node in enumerate(graph.nodes):
        columns[node.layer].append(place)
    sizes = [1.0] * len(graph.nodes)
    ways = []
    passed = sum(graph.nodes[edge.target].layer - graph.nodes[edge.source].layer - 1 for edge in graph.edges)
    for edge in graph.edges:
        way = [edge.source]
        for layer in range(graph.nodes[edge.source].layer + 1, graph.nodes[edge.target].layer):
            if passed <= MOST_POINTS:
                way.append(len(sizes))
                columns[layer].append(len(sizes))
                sizes.append(POINT_SIZE)
        ways.append([*way, edge.target])
    return _Slots(columns, sizes, ways)


def _rows(slots: _Slots) -> list[float]:
    """Return the row of each slot's middle: near to those that it is connected with, and apart in its column."""
    before: dict[int, list[int]] = {}
    behind: dict[int, list[int]] = {}
    for way in slots.ways:
        for source, target in pairwise(way):
            before.setdefault(target, []).append(source)
            behind.setdefault(source, []).append(target)
    rows = [0.0] * len(slots.sizes)
    for column in slots.columns:
        for row, slot in enumerate(column):
            rows[slot] = float(row)
    for sweep in range(_SWEEPS):
        near, order = (before, slots.columns) if sweep % 2 == 0 else (behind, slots.columns[::-1])
        for column in order:
            _arrange(column, near, rows, slots.sizes)
    highest = min(row - size / 2 for row, size in zip(rows, slots.sizes, strict=True)) + 0.5
    return [row - highest for row in rows]


def _arrange(column: list[int], near: dict[int, list[int]], rows: list[float], sizes: list[float]) -> None:
    wanted = {
        slot: sum(rows[other] for other in near[slot]) / len(near[slot]) if slot in near else rows[slot]
        for slot in column
    }
    column.sort(key=lambda slot: wanted[slot])
    free = float("-inf")
    for slot in column:
        rows[slot] = max(wanted[slot], free + sizes[slot] / 2)
        free = rows[slot] + sizes[slot] / 2
    # Pushing each one below the one above has moved the column down: back by the mean.
    shift = sum(rows[slot] - wanted[slot] for slot in column) / max(1, len(column))
    for slot in column:
        rows[slot] -= shift


def _node(node: GraphNode, x: float, y: float) -> PlacedNode:
    several = len(node.tasks) > 1
    name = node.name
    first = ", ".join(task.id for task in node.tasks[:20]) + (", …" if len(node.tasks) > 20 else "")  # noqa: PLR2004
    return PlacedNode(
        id=node.id,
        name=brief(name, LONGEST_NAME - (2 + len(str(len(node.tasks))) if several else 0)),
        title=brief(f"{name}: {node.text} ({first})" if several else f"{name}: {node.text}", _LONGEST_TITLE),
        phase=node.phase,
        count=len(node.tasks),
        shares=shares_of(node.counts) if several else (),
        search=name.removesuffix("…").rstrip() if several else "",
        x=x,
        y=y,
    )


def _curve(way: Sequence[int], lefts: Sequence[float], middles: Sequence[float]) -> str:
    """Return the path of an arrow: curves between the columns, straight within those that it passes."""
    bend = COLUMN_GAP * 0.6
    parts = [f"M{lefts[way[0]] + NODE_WIDTH:g},{middles[way[0]]:.1f}"]
    for number, (source, target) in enumerate(pairwise(way)):
        x1, y1, x2, y2 = lefts[source] + NODE_WIDTH, middles[source], lefts[target], middles[target]
        if number:
            parts.append(f"H{x1:g}")
        parts.append(f"C{x1 + bend:g},{y1:.1f} {x2 - bend:g},{y2:.1f} {x2:g},{y2:.1f}")
    return "".join(parts)
