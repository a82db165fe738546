"""The agent splits without tearing sentences, within its bounds, and answers with what fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

PAGE = """\
# Owls

Owls hunt at night. They hear
what they do not see!

- Mice are quiet. | no table

```
Owls hunt at night in code too.
```
"""


@pytest.fixture(scope="module")
def agent(load: Callable[[str], ModuleType]) -> ModuleType:
    """Return the example's functions."""
    return load("agent")


def test_sentences_are_whole(agent: ModuleType) -> None:
    """A sentence may go over lines; headings and code are no sentences."""
    assert list(agent.sentences(PAGE.splitlines())) == [
        "Owls hunt at night.",
        "They hear what they do not see!",
        "Mice are quiet.",
        "| no table",
    ]


def test_the_answer_is_the_sentence_that_fits(agent: ModuleType) -> None:
    """Shared words decide, whatever their endings, and an answer that fits nothing says so."""
    answer = agent.find_answer("When does an owl hunt?", PAGE.splitlines())
    assert answer["sentence"] == "Owls hunt at night."
    assert 0 < answer["fit"] <= 1
    assert agent.find_answer("Fish?", PAGE.splitlines()) == {"fit": 0.0, "sentence": ""}


def test_splits_only_what_is_too_much(agent: ModuleType) -> None:
    """A worker splits at a seam between paragraphs, answers what is short, and stops at the greatest depth."""
    lines = (["word " * agent.ENOUGH, ""] * 4)[:-1]
    cut = agent.decide(lines, 1)
    assert 0 < cut < len(lines)
    assert lines[cut] == ""
    assert agent.decide(lines, agent.MAX_DEPTH) == 0
    assert agent.decide(["a few words", "", "more"], 1) == 0
    assert agent.decide(["word " * agent.ENOUGH] * 2, 1) == 0


def test_splitting_always_ends(agent: ModuleType, tmp_path: Path) -> None:
    """Followed to its end, the tree of sub-goals covers every line once."""
    lines = [*PAGE.splitlines(), ""] * 50
    done, todo = [], [(0, len(lines), 1)]
    while todo:
        start, stop, depth = todo.pop()
        cut = agent.decide(lines[start:stop], depth)
        if cut:
            todo += [(start, start + cut, depth + 1), (start + cut, stop, depth + 1)]
        else:
            done.append((start, stop))
    assert len(done) > 1
    assert [number for start, stop in sorted(done) for number in range(start, stop)] == list(range(len(lines)))


def test_the_report_has_the_best_answers_first(agent: ModuleType) -> None:
    """At most ten answers, best first, with their source, and none that does not fit."""
    answers = [{"fit": fit / 20, "sentence": f"s{fit}", "source": "a.md:1"} for fit in range(15)]
    page = agent.draw_report("Why?", answers)
    assert page.startswith("# Why?\n\n- s14 (a.md:1)\n- s13 ")
    assert page.count("\n- ") == 10
    assert "nothing" in agent.draw_report("Why?", answers[:1])


def test_reads_goal_and_texts(agent: ModuleType, tmp_path: Path) -> None:
    """The goal's first line is the question; a folder stands for the Markdown texts in it."""
    (tmp_path / "docs/deep").mkdir(parents=True)
    (tmp_path / "docs/b.md").write_text(PAGE)
    (tmp_path / "docs/deep/a.md").write_text(PAGE)
    (tmp_path / "docs/picture.png").write_bytes(b"\xff")
    goal = tmp_path / "goal.txt"
    goal.write_text(f"Why?\n{tmp_path}/docs\n\n")
    question, places = agent.read_goal(goal)
    assert question == "Why?"
    assert [path.name for path in agent.find_texts(places[0])] == ["b.md", "a.md"]
    assert agent.find_texts(goal) == [goal]
