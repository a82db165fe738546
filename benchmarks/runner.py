"""What the runner itself costs: CPU of a no-op task, next to the bare command and to the runner script."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Sequence

from air_executor.runner import native
from benchmarks.place import runner_words
from benchmarks.table import Line, Row, median_ratio

_MEMORY = "/dev/shm"  # noqa: S108 - a folder without a disk: what is measured is the runner's
_REACH = 0.5
"""Milliseconds beyond the bare command."""


def _cpu(tasks: int, words: str) -> float:
    """Return milliseconds of CPU per task when `xargs -P4` starts this for each run directory, `{}`."""
    folder = tempfile.mkdtemp(prefix="runner-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None)
    outs = [f"{folder}/{number}" for number in range(tasks)]
    for out in outs:
        os.mkdir(out)
    try:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        xargs = f"exec xargs -P4 -I{{}} {words} 9>>{folder}/slot"
        subprocess.run(["sh", "-c", xargs], input="\n".join(outs).encode(), check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    finally:
        shutil.rmtree(folder)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / tasks * 1000


def _runner(*, quick: bool) -> Sequence[Line]:
    """Measure the CPU of `true`: bare, with the native runner and with the script, in turn."""
    tasks, rounds = (200, 1) if quick else (1000, 7)
    contenders = {"bare": "true", "script": f"{runner_words(script=True)} {{}} / - 10 local true"}
    if native.this_machine() in native.builds():
        contenders["native"] = f"{runner_words()} {{}} / - 10 local true"
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, words in contenders.items():
            found[name].append(_cpu(tasks, words))
    figure = "CPU beyond bare `true`, ms a task"
    if "native" not in found:
        return [Line("runner", figure, None, _REACH, at_most=True, note="no native runner is built: make runner")]
    beyond = [mine - theirs for mine, theirs in zip(found["native"], found["bare"], strict=True)]
    note = ", ".join(f"{name} {statistics.median(values):.2f}" for name, values in found.items())
    return [
        Line("runner", figure, statistics.median(beyond), _REACH, at_most=True, note=f"ms: {note}", detail=found),
        Line("runner", "CPU ÷ that of the script", median_ratio(found["native"], found["script"])),
    ]


ROWS = (Row("runner", _runner),)
