"""A coding agent with a script: for tests. Plans two steps, does each, finds one more in the first review.

It prints a JSON object a line as Claude Code does; with STAND_IN=plain, text. Each call is a line in the file CALLS,
beside which `limit-once` and `fail-once` make the next call of a worker do that, and `hold` lets all of them wait.
"""

import json
import os
import pathlib
import sys
import time

prompt = sys.argv[-1]
calls = pathlib.Path(os.environ["CALLS"])
step = next((line.partition(": ")[2] for line in prompt.splitlines() if line.startswith("Your step: ")), None)
kind = "work" if step else "plan" if "Split it" in prompt else "review"
with calls.open("a") as file:
    file.write(f"{kind} {step or ''}".strip() + "\n")


def once(name: str) -> bool:
    """Tell whether this is the call that a file asks something of."""
    try:
        calls.with_name(name).unlink()
    except FileNotFoundError:
        return False
    return True


def say(answer: str, *, failed: bool = False) -> None:
    """Answer, and end."""
    if os.environ.get("STAND_IN") == "plain":
        sys.stdout.write(answer)
        sys.exit(int(failed))
    uses = [{"type": "text", "text": "I'll edit it."}, {"type": "tool_use", "name": "Edit", "input": {}}]
    sys.stdout.write(f"{json.dumps({'type': 'assistant', 'message': {'content': uses}})}\n")
    sys.stdout.flush()
    while calls.with_name("hold").exists():
        time.sleep(0.05)
    sys.stdout.write(json.dumps({"type": "result", "result": answer, "is_error": failed, "total_cost_usd": 0.5}))
    sys.exit(int(failed))


if kind == "plan":
    say("Two steps:\n- add one\n- add two")
if kind == "work":
    if once("limit-once"):
        say("Claude usage limit reached. Your limit will reset at 3pm.", failed=True)
    if once("fail-once"):
        say("something broke", failed=True)
    name = (step or "").split()[-1]
    pathlib.Path(f"{name}.txt").write_text(f"{name}\n")
    say(f"done: {step}")
missing = sum(line == "review" for line in calls.read_text().splitlines()) == 1
say("- add three" if missing else "DONE")
