"""An agent that answers a question from a set of texts and splits its own work; `agent.yaml` runs it.

The first line of the goal file is the question; the other lines are files and folders to read. The answer consists of
the sentences that match the question best. The comments that mention a model mark where a real agent would call one.
The rest is how any agent uses Air-Executor: read the sub-goal, decide, then queue smaller sub-goals or set an answer.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from air_executor import inputs, queue_tasks, set_result

MAX_DEPTH = 6
"""Maximum depth of the tree, whatever the workers decide."""
ENOUGH = 600
"""Maximum number of words for one worker."""
SMALL_WORDS = frozenset(
    "a after all an and are as at be but by can does for from has have how if in into is it its no not of on or so "
    "such than that the their then there they this to was what when where which while who will with".split()
)


def plan(goal: Path) -> None:
    """Split the goal into one sub-goal per text."""
    _, paths = read_goal(goal)
    texts = [text for path in paths for text in find_texts(path)]
    # A model would derive the sub-goals here, and could drop irrelevant texts.
    queue_tasks([work_task(goal, text, 0, len(read_lines(text)), depth=1) for text in texts])
    print(f"{len(texts)} texts to read")


def work(goal: Path, text: Path, start: int, stop: int, depth: int) -> None:
    """Answer the question from lines `start` to `stop` of a text, or queue two workers for the halves."""
    question, _ = read_goal(goal)
    lines = read_lines(text)[start:stop]
    cut = decide(lines, depth)
    if cut:
        queue_tasks(
            [
                work_task(goal, text, start, start + cut, depth + 1),
                work_task(goal, text, start + cut, stop, depth + 1),
            ]
        )
        print(f"{text}:{start + 1}-{stop} is too much for one worker, split in two")
        return
    answer = find_answer(question, lines)
    set_result({"source": f"{text}:{start + 1}", **answer})
    print(f"{answer['fit']:.2f} {answer['sentence']}")


def report(goal: Path) -> None:
    """Write the best answers to the log and to the workspace."""
    question, _ = read_goal(goal)
    answers = [result for result in inputs().values() if isinstance(result, dict) and "sentence" in result]
    # A model would write the report from the answers here.
    page = draw_report(question, answers)
    Path(os.environ["AIR_WORKSPACE"], "report.md").write_text(page, encoding="utf-8")
    set_result({"answers": len(answers)})
    print(page, end="")


def work_task(goal: Path, text: Path, start: int, stop: int, depth: int) -> dict[str, Any]:
    """Return a worker's task. It has no id, so Air-Executor generates one."""
    sub_goal = [str(goal), str(text), str(start), str(stop), str(depth)]
    return {"command": ["python", "examples/agent.py", "work", *sub_goal], "labels": {"text": text.stem}}


def decide(lines: Sequence[str], depth: int) -> int:
    """Return the line to split at, or 0 to answer directly. A real agent would ask a model.

    Splits at the heading or blank line nearest to the middle, never within a sentence.
    """
    if depth >= MAX_DEPTH or sum(len(line.split()) for line in lines) <= ENOUGH:
        return 0
    seams = [number for number, line in enumerate(lines) if number and (not line.strip() or line.startswith("#"))]
    return min(seams, key=lambda number: abs(number - len(lines) // 2), default=0)


def find_answer(question: str, lines: Iterable[str]) -> dict[str, Any]:
    """Return the sentence most similar to the question, and its similarity (0 to 1)."""
    wanted = words(question)
    best: dict[str, Any] = {"fit": 0.0, "sentence": ""}
    for sentence in sentences(lines):
        said = words(sentence)
        # Normalize by length; otherwise the longest sentence wins.
        fit = len(wanted & said) / math.sqrt(len(wanted) * len(said)) if wanted and said else 0.0
        if fit > best["fit"]:
            best = {"fit": round(fit, 3), "sentence": sentence[:500]}
    return best


def sentences(lines: Iterable[str]) -> Iterator[str]:
    """Yield the sentences of Markdown prose, each on one line. Skips headings, tables and code blocks."""
    paragraph, code = "", False
    for line in [*lines, ""]:
        if line.lstrip().startswith("```"):
            code = not code
        elif not code and line.strip() and not line.startswith(("#", "|", "    ")):
            paragraph += " " + line.strip().lstrip("-*> ")
            continue
        yield from (part for part in re.split(r"(?<=[.!?])\s+", paragraph.strip()) if part)
        paragraph = ""


def words(text: str) -> frozenset[str]:
    """Return the significant words of a text, without plural endings."""
    found = re.findall(r"[a-z]+", text.lower())
    return frozenset(word.removesuffix("s") for word in found if word not in SMALL_WORDS)


def draw_report(question: str, answers: Sequence[dict[str, Any]]) -> str:
    """Return the ten best answers as Markdown."""
    best = sorted((answer for answer in answers if answer["fit"] > 0), key=lambda answer: -answer["fit"])[:10]
    found = "".join(f"- {answer['sentence']} ({answer['source']})\n" for answer in best)
    return f"# {question}\n\n" + (found or "The texts say nothing about it.\n")


def read_goal(goal: Path) -> tuple[str, list[Path]]:
    """Return the question and the paths to read."""
    question, *paths = read_lines(goal)
    return question, [Path(path) for path in paths if path]


def find_texts(path: Path) -> list[Path]:
    """Return the file, or all Markdown files below a folder."""
    return sorted(path.rglob("*.md")) if path.is_dir() else [path]


def read_lines(text: Path) -> list[str]:
    """Return a text's lines without line endings."""
    return text.read_text(encoding="utf-8").splitlines()


def main(step: str, goal: str, *sub_goal: str) -> None:
    """Run the step named on the command line."""
    if step == "work":
        text, start, stop, depth = sub_goal
        work(Path(goal), Path(text), int(start), int(stop), int(depth))
    else:
        {"plan": plan, "report": report}[step](Path(goal))


if __name__ == "__main__":
    main(*sys.argv[1:])
