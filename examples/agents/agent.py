"""Plan, work, review and merge with a coding agent: any program that takes a prompt as its last argument.

The variable AGENT is its command line. From Claude Code (`--output-format stream-json`, or `json`) the answer and its
price are taken from the JSON that it prints; of any other program, everything that it prints is the answer.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from typing import Any

from air_executor import inputs, queue_tasks, run_again, set_result, usage

CLAUDE = "claude -p --verbose --output-format stream-json --permission-mode acceptEdits"
MOST_STEPS = 8
MOST_ROUNDS = 3
LIMIT = re.compile(r"usage limit|hit your .{0,20}limit|limit reached|rate.?limit|too many requests", re.IGNORECASE)
PATIENCE = 15 * 60
"""Seconds until the next try after a usage limit, unless the agent says when it ends."""


def main() -> None:
    """Do one step of the loop."""
    step, *words = sys.argv[1:]
    if step == "plan":
        plan()
    elif step == "work":
        work(*words)
    elif step == "review":
        review(*words)
    else:
        merge()


def plan() -> None:
    """Split the goal into steps, and queue a worker for each."""
    answer = ask(
        f"Goal: {os.environ['GOAL']}\n"
        "Split it into independent steps for this repository. Change nothing. Answer with one line per step, "
        "each beginning with `- `; a step that one commit can do needs no split."
    )
    queue_workers(steps_in(answer) or [os.environ["GOAL"]], base="HEAD", round_=1)


def work(step: str) -> None:
    """Carry out one step in this task's own worktree, and commit it to this task's own branch."""
    ask(f"Goal: {os.environ['GOAL']}\nYour step: {step}\nEdit the files of this repository. Do not commit.")
    commit(step)
    set_result({"branch": os.environ["AIR_BRANCH"], "step": step})


def review(round_: str = "1") -> None:
    """Merge the branches of the workers into this task's own branch, and judge; queue what is missing."""
    for name, result in inputs().items():
        if name.startswith(f"work-{round_}-"):
            git("merge", "--no-edit", result["branch"])
    answer = ask(
        f"Goal: {os.environ['GOAL']}\nReview `git diff {os.environ['AIR_BASE']}`, and correct small mistakes in place. "
        "Do not commit. Answer with one line, beginning with `- `, for each step that is still missing; else `DONE`."
    )
    commit(f"Review, round {round_}")
    missing = steps_in(answer)
    set_result({"branch": os.environ["AIR_BRANCH"], "round": int(round_), "missing": missing})
    if missing and int(round_) < MOST_ROUNDS:
        following = int(round_) + 1
        workers = queue_workers(missing, base=os.environ["AIR_BRANCH"], round_=following)
        queue_tasks(
            [
                {
                    "id": f"review-{following}",
                    "command": ["python", sys.argv[0], "review", str(following)],
                    "after": workers,
                    "worktree": {"base": os.environ["AIR_BRANCH"]},
                }
            ]
        )


def merge() -> None:
    """Merge the branch of the last review into what the project folder has checked out."""
    reviews = [result for name, result in inputs().items() if name.startswith("review")]
    last = max(reviews, key=lambda result: result["round"])
    git("merge", "--no-edit", last["branch"])
    set_result({"merged": last["branch"], "missing": last["missing"]})


def queue_workers(steps: list[str], *, base: str, round_: int) -> list[str]:
    """Queue a task for each step, each with a worktree; return their ids."""
    names = [f"work-{round_}-{number}" for number in range(1, len(steps) + 1)]
    queue_tasks(
        {
            "id": name,
            "description": steps[number],
            "command": ["python", sys.argv[0], "work", steps[number]],
            "worktree": {"base": base},
        }
        for number, name in enumerate(names)
    )
    return names


def steps_in(answer: str) -> list[str]:
    """Return the steps that an answer lists."""
    return [line[2:].strip() for line in answer.splitlines() if line.startswith("- ") and line[2:].strip()][:MOST_STEPS]


def ask(prompt: str) -> str:
    """Return the agent's answer. At a usage limit, ask for another run of this task later, and end."""
    command = [*shlex.split(os.environ.get("AGENT") or CLAUDE), prompt]
    report: dict[str, Any] = {}
    text = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", errors="replace") as agent:
        for line in agent.stdout or ():  # shown as it comes: who shows nothing for long is stopped (`stall_timeout`)
            event = event_in(line)
            print(line.rstrip("\n") if event is None else words_of(event), flush=True)
            text += line
            if event and "result" in event:
                report = event
    answer = str(report.get("result", text))
    failed = agent.returncode != 0 or bool(report.get("is_error"))
    if report.get("total_cost_usd"):
        usage(usd=report["total_cost_usd"])
    if failed and LIMIT.search(answer):
        until = re.search(r"\|(\d{10})\b", answer)
        run_again(max(60, int(until[1]) - time.time()) if until else float(os.environ.get("PATIENCE", PATIENCE)))
        sys.exit(0)
    if failed:
        sys.exit("the agent failed")
    return answer


def event_in(line: str) -> dict[str, Any] | None:
    """Return the event that a line of Claude Code is; None: it is text."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def words_of(event: dict[str, Any]) -> str:
    """Return an event for the log: what the agent says, which tools it uses."""
    message = event.get("message")
    parts = message.get("content") if isinstance(message, dict) else None
    known = [part for part in parts or () if isinstance(part, dict)]
    said = [part.get("text") or part.get("name") or "" for part in known]
    return str(event.get("result") or " ".join(said).strip() or event.get("type"))


def commit(message: str) -> None:
    """Commit what there is, if there is something."""
    git("add", "--all")
    if git("diff", "--cached", "--quiet", may_fail=True):
        git("commit", "--quiet", "--message", message)


def git(*words: str, may_fail: bool = False) -> int:
    """Run git; return its exit code."""
    return subprocess.run(["git", *words], check=not may_fail).returncode


if __name__ == "__main__":
    main()
