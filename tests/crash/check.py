"""What must hold when a trial is over, told from the tasks' own markers and the state files. Returns sentences."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tests.crash.plan import Trial

ENDED = {"succeeded", "failed", "cancelled"}


def state_of(state_dir: str, job: str) -> dict[str, Any] | None:
    """Return a job's `state.json`, or None if there is none."""
    try:
        with open(f"{state_dir}/jobs/{job}/state.json", encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return None
    return found


def requests(state_dir: str) -> list[str]:
    """Return the requests that wait in the inbox."""
    return [name for name in os.listdir(f"{state_dir}/inbox") if name.endswith(".json")]


def all_ended(state_dir: str, trial: Trial) -> bool:
    """Tell whether every job that must exist does, and has ended, and no request waits."""
    states = [state_of(state_dir, job) for job in trial.labels]
    return not requests(state_dir) and all(state is not None and state["phase"] in ENDED for state in states)


def violations(state_dir: str, trial: Trial, left: Sequence[object]) -> list[str]:
    """Return every promise that was broken, one sentence each; the manager has been stopped, and `left` still runs."""
    return list(_find(state_dir, trial, left))


def _find(state_dir: str, trial: Trial, left: Sequence[object]) -> Iterator[str]:
    extra = set(os.listdir(f"{state_dir}/jobs")) - set(trial.labels)
    if extra:
        yield f"jobs that nobody submitted: {sorted(extra)}"
    for name in os.listdir(f"{state_dir}/inbox/refused"):
        if name.endswith(".reason"):
            with open(f"{state_dir}/inbox/refused/{name}", encoding="utf-8") as file:
                yield f"request {name} was refused: {file.read()}"
    for job, labels in trial.labels.items():
        state = state_of(state_dir, job)
        if state is None:
            yield f"job {job} is lost"
            continue
        workspace = f"{state_dir}/jobs/{job}/workspace"
        yield from _in_markers(job, workspace)
        yield from _in_state(job, labels, state, workspace, trial)
    if left:
        yield f"left behind: {left}"
    # What else is in tmp/ goes once it is an hour old, for a submitter may be at work on it.
    names = [name for folder in ("journal", "tmp") for name in os.listdir(f"{state_dir}/{folder}")]
    names = [name for name in names if (name.isdigit() and len(name) < 12) or name.endswith(".jsonl")]
    if names and not trial.faults:  # a volume that lets no file go keeps them, and they say nothing new
        yield f"there after a clean stop: {names}"
    corrupt = [name for _, _, files in os.walk(state_dir) for name in files if name.endswith(".corrupt")]
    if corrupt:
        yield f"quarantined: {corrupt}"


def _in_markers(job: str, workspace: str) -> Iterator[str]:
    if not os.path.isdir(workspace):
        yield f"job {job} never had a workspace"
    elif os.path.exists(f"{workspace}/violations"):
        with open(f"{workspace}/violations", encoding="utf-8") as file:
            yield from (f"job {job}: {line.rstrip()}" for line in file)


def _in_state(job: str, labels: list[str], state: dict[str, Any], workspace: str, trial: Trial) -> Iterator[str]:
    if state["phase"] != "succeeded":
        yield f"job {job} is {state['phase']} ({state['reason']})"
    there = Counter(task["command"][1] for task in state["tasks"])
    expected = Counter(labels)
    if there != expected:
        lost, extra = sorted((expected - there).elements()), sorted((there - expected).elements())
        yield f"job {job}: lost {lost}, too many {extra}"
    markers = set(os.listdir(workspace)) if os.path.isdir(workspace) else set()
    seqs: Counter[int] = Counter()
    for task in state["tasks"]:
        seqs.update(attempt["seq"] for attempt in task.get("attempts", []))
        yield from _in_task(job, state["uid"], task, markers)
        if task["command"][1] in trial.merges and task["phase"] == "succeeded":
            yield from _in_merge(job, task, workspace, trial)
    if any(count > 1 for count in seqs.values()):
        yield f"job {job}: a run number was used twice: {seqs}"


def _in_task(job: str, uid: str, task: dict[str, Any], markers: set[str]) -> Iterator[str]:
    label = task["command"][1]
    attempts = task.get("attempts", [])
    good = [attempt for attempt in attempts if attempt["reason"] == "ok"]
    if task["phase"] != "succeeded" or len(good) != 1:
        yield f"job {job}: {label} is {task['phase']} with {len(good)} committed successes"
        return
    run = f"{uid}-{good[0]['seq']}"
    if task["result"] != {"label": label, "run": run}:
        yield f"job {job}: {label} has the result {task['result']}, but run {run} succeeded"
    for kind in ("begin", "end"):
        if f"{kind}.{label}.{run}" not in markers:
            yield f"job {job}: run {run} of {label} was booked as a success, but has no {kind} marker"
    known = {f"{uid}-{attempt['seq']}" for attempt in attempts}
    begun = {name.rpartition(".")[2] for name in markers if name.startswith(f"begin.{label}.")}
    if begun - known:
        yield f"job {job}: {label} began in runs that are not in the books: {sorted(begun - known)}"


def _in_merge(job: str, task: dict[str, Any], workspace: str, trial: Trial) -> Iterator[str]:
    label = task["command"][1]
    with open(f"{workspace}/inputs.{label}.{task['result']['run']}", encoding="utf-8") as file:
        given = {value["label"] for value in json.load(file).values()}
    missing = trial.merges[label] - given
    if missing:
        yield f"job {job}: {label} ran without {sorted(missing)}"
