"""The steps of `splitting_agent`: a range of questions is answered, or split in two. Needs no package.

An agent would ask a model; here a rule decides, so that this runs without a network.
"""

from __future__ import annotations

import json
import os
import sys

MAX_QUESTIONS = 10
"""Number of questions that one step answers itself."""


def think(start: int, stop: int) -> None:
    """Answer the questions from `start` to `stop`, or queue a step for each half."""
    if stop - start > MAX_QUESTIONS:
        middle = (start + stop) // 2
        with open(os.environ["AIR_QUEUE"], "a") as queue:
            for part in ((start, middle), (middle, stop)):
                task = {"command": ["python", os.path.abspath(__file__), "think", *map(str, part)]}
                queue.write(json.dumps(task) + "\n")
        print(f"{start} to {stop} is too much for one step, split in two")
        return
    answers = {str(number): number * number for number in range(start, stop)}
    with open(os.environ["AIR_RESULT"], "w") as result:
        json.dump(answers, result)
    print(f"answered {start} to {stop}")


def answer() -> None:
    """Combine the answers of all steps."""
    with open(os.environ["AIR_INPUTS"]) as file:
        found = [step for step in json.load(file).values() if step]
    answers = {number: value for step in found for number, value in step.items()}
    with open(os.environ["AIR_RESULT"], "w") as result:
        json.dump({"answers": len(answers), "sum": sum(answers.values())}, result)
    print(f"{len(answers)} answers from {len(found)} steps")


if __name__ == "__main__":
    if sys.argv[1] == "think":
        think(int(sys.argv[2]), int(sys.argv[3]))
    else:
        answer()
