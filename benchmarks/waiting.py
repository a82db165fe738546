"""What waiting costs: questions that nobody answers, tasks that have said "again", and each time that one says so."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.place import Place
from benchmarks.table import Line, Row

_QUESTIONS = 1_000
_CHECKS = 10_000
_CHECKING = 20


def idle(*, quick: bool) -> Sequence[Line]:
    """Measure a manager without jobs, one with approvals that wait, and one with as many delays as tasks wait."""
    questions, checks, seconds = (100, 1_000, 5) if quick else (_QUESTIONS, _CHECKS, 65)
    with Place() as empty, Place() as asking, Place() as delayed:
        asking.submit("asks", [{"id": f"t{number}", "approve": "Deploy?"} for number in range(questions)])
        delays = [{"id": f"t{number}", "command": ["true"], "delay": 3600 + number} for number in range(checks)]
        delayed.submit("delayed", delays, max_runners=9)
        shares = []
        for place in (empty, asking, delayed):
            place.start()
            time.sleep(2)  # until what the start brings is over
            before = place.cpu_exactly()
            time.sleep(seconds)
            shares.append((place.cpu_exactly() - before) / seconds * 100)
    note = f"over {seconds} s; without a job {shares[0]:.2f} %"
    return [
        Line("waiting", f"{questions} approvals waiting: CPU, % of a core", shares[1], 0.5, at_most=True, note=note),
        Line("waiting", f"{checks} tasks that wait for their next check", shares[2], 2, at_most=True, note=note),
    ]


def again(*, quick: bool) -> Sequence[Line]:
    """Measure the manager while tasks say "again" every few seconds."""
    seconds = 5 if quick else 30
    task = {"command": ["sh", "-c", "exit 75"], "again_on": [75], "again_delay": 2}
    with Place(AIR_MAX_RUNNERS="4") as place:
        place.submit("checks", [{"id": f"t{number}", **task} for number in range(_CHECKING)], max_runners=4)
        place.start()
        time.sleep(2)
        before = place.cpu_exactly(), _runs(place)
        time.sleep(seconds)
        runs = _runs(place) - before[1]
        cost = (place.cpu_exactly() - before[0]) / max(1, runs) * 1000
    return [Line("again", 'the manager\'s own CPU for each run that says "again", ms', cost, note=f"{runs} runs")]


def _runs(place: Place) -> int:
    return sum(task.runs for task in place.client.status("checks").tasks.values())


ROWS = (Row("waiting", idle), Row("again", again))
