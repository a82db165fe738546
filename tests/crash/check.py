"""What must hold when a trial is over, told from the tasks' own markers and the state files. Returns sentences."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from air_executor.model.names import scheduled_time
from air_executor.store.files import list_folders
from tests.crash.plan import OVER_HTTP, Trial

ENDED = {"succeeded", "failed", "cancelled"}


TICKS = "tick"
"""Name of the jobs of the schedule; the label of their only task, too."""
TICK = 60
"""Seconds from one to the next."""

NOTIFY = "ops=success+failure+late"
"""Who is told of what, for all jobs."""


def labels_of(state_dir: str, trial: Trial) -> dict[str, list[str]]:
    """Return the labels of each job, those of the schedule included."""
    ticks = [name for name in os.listdir(f"{state_dir}/jobs") if scheduled_time(name, TICKS) is not None]
    return trial.labels | {name: [TICKS] for name in ticks}


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


def worktrees(state_dir: str) -> list[str]:
    """Return the worktrees of tasks that are there; those of successes are removed."""
    folders = (f"{state_dir}/worktrees/{name}" for name in list_folders(f"{state_dir}/worktrees"))
    return [f"{folder}/{name}" for folder in folders for name in list_folders(folder)]


def all_ended(state_dir: str, trial: Trial) -> bool:
    """Tell whether every job that must exist does, and has ended, and no request waits."""
    labels = labels_of(state_dir, trial)
    if len(labels) < len(trial.labels) + trial.ticks:
        return False
    states = [state_of(state_dir, job) for job in labels]
    if worktrees(state_dir):
        return False
    return not requests(state_dir) and all(
        state is not None and state["phase"] in ENDED and not state.get("notices") for state in states
    )


def violations(state_dir: str, trial: Trial, left: Sequence[object]) -> list[str]:
    """Return every promise that was broken, one sentence each; the manager has been stopped, and `left` still runs."""
    return list(_find(state_dir, trial, left))


def _find(state_dir: str, trial: Trial, left: Sequence[object]) -> Iterator[str]:
    every = labels_of(state_dir, trial)
    yield from _in_schedule(every, trial)
    extra = set(os.listdir(f"{state_dir}/jobs")) - set(every)
    if extra:
        yield f"jobs that nobody submitted: {sorted(extra)}"
    for name in os.listdir(f"{state_dir}/inbox/refused"):
        if name.endswith(".reason"):
            with open(f"{state_dir}/inbox/refused/{name}", encoding="utf-8") as file:
                yield f"request {name} was refused: {file.read()}"
    for job, labels in every.items():
        state = state_of(state_dir, job)
        if state is None:
            yield f"job {job} is lost"
            continue
        workspace = f"{state_dir}/jobs/{job}/workspace"
        yield from _in_job(job, labels, state, workspace, trial)
    if left:
        yield f"left behind: {left}"
    if "tree" in trial.labels:
        yield from _in_repository(os.path.dirname(state_dir), trial.labels["tree"])
    # What else is in tmp/ goes once it is an hour old, for a submitter may be at work on it.
    names = [name for folder in ("journal", "tmp") for name in os.listdir(f"{state_dir}/{folder}")]
    names = [name for name in names if (name.isdigit() and len(name) < 12) or name.endswith(".jsonl")]
    if names and not trial.faults:  # a volume that lets no file go keeps them, and they say nothing new
        yield f"there after a clean stop: {names}"
    corrupt = [name for _, _, files in os.walk(state_dir) for name in files if name.endswith(".corrupt")]
    if corrupt:
        yield f"quarantined: {corrupt}"


def in_notifications(state_dir: str, trial: Trial, got: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Each end told at least once, and always under one key; that a job is late is decided once."""
    keys: dict[tuple[str, str], set[str]] = {}
    for body in got:
        keys.setdefault((body["uid"], body["event"]), set()).add(body["key"])
    for job in labels_of(state_dir, trial):
        state = state_of(state_dir, job)
        uid = "" if state is None else state["uid"]
        ends = 1 + sum(label.startswith(f"{job}-added") for label in trial.labels.get(job, ()))  # they reopen it
        told, late = len(keys.pop((uid, "success"), ())), len(keys.pop((uid, "late"), ()))
        if not 1 <= told <= ends:
            yield f"job {job} ended up to {ends} times, but there were {told} notifications of success"
        if late != (state is not None and state.get("late_since") is not None):
            yield f"job {job}: {late} notifications that it is late"
    if keys:
        yield f"notifications that nothing explains: {keys}"


def _in_repository(project: str, labels: Sequence[str]) -> Iterator[str]:
    """A branch for each task, and no worktree that git still knows."""
    found = [
        git(project, "for-each-ref", "--format=%(refname:short)", "refs/heads/air"),
        git(project, "worktree", "list"),
    ]
    branches, checkouts = (text.splitlines() for text in found)
    if branches != [f"air/tree/{label}" for label in labels] or len(checkouts) != 1:
        yield f"the repository has the branches {branches} and the worktrees {checkouts}"


def git(project: str, *words: str) -> str:
    """Run git, and return what it prints."""
    who = {f"GIT_{one}_{what}": "a" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", *words], cwd=project, env=os.environ | who, capture_output=True, text=True, check=True
    )
    return done.stdout


def _in_schedule(jobs: Iterable[str], trial: Trial) -> Iterator[str]:
    """A run for each time, none left out; that none is there twice follows from their names."""
    times = sorted(time for job in jobs if (time := scheduled_time(job, TICKS)) is not None)
    gaps = [time for before, time in pairwise(times) if time - before != TICK]
    if gaps or len(times) < trial.ticks or (times and not trial.ticks):
        yield f"the schedule has runs for {times}, but {trial.ticks} or more were due without a gap"


def _in_markers(job: str, workspace: str) -> Iterator[str]:
    if not os.path.isdir(workspace):
        yield f"job {job} never had a workspace"
    elif os.path.exists(f"{workspace}/violations"):
        with open(f"{workspace}/violations", encoding="utf-8") as file:
            yield from (f"job {job}: {line.rstrip()}" for line in file)


def _in_state(job: str, labels: list[str], state: dict[str, Any], workspace: str, trial: Trial) -> Iterator[str]:
    if state["phase"] != "succeeded":
        yield f"job {job} is {state['phase']} ({state['reason']})"
    lists = [task for task in state["tasks"] if "unresolved" in task]
    tasks = [task for task in state["tasks"] if "unresolved" not in task and "joins" not in task]
    joined = [task["id"] for task in state["tasks"] if "joins" in task and task["phase"] == "succeeded"]
    if joined != [child for parent, child in trial.joined.items() if parent == job]:
        yield f"job {job} has joined {joined}"
    if any(task["phase"] != "succeeded" or task["runs"] for task in lists):
        yield f"job {job}: a list ran, or did not come about: {lists}"
    there = Counter(task["command"][1] for task in tasks)
    expected = Counter(labels)
    if there != expected:
        lost, extra = sorted((expected - there).elements()), sorted((there - expected).elements())
        yield f"job {job}: lost {lost}, too many {extra}"
    markers = set(os.listdir(workspace)) if os.path.isdir(workspace) else set()
    seqs: Counter[int] = Counter()
    for task in tasks:
        seqs.update(attempt["seq"] for attempt in task.get("attempts", []))
        yield from _in_task(job, state["uid"], task, markers, trial)
        if task["command"][1] in trial.merges and task["phase"] == "succeeded":
            yield from _in_merge(job, task, workspace, trial)
    if any(count > 1 for count in seqs.values()):
        yield f"job {job}: a run number was used twice: {seqs}"
    reported = state["usage"].get("reported", {}).get("runs", 0)
    least, most = (sum(name.startswith(kinds) for name in markers) for kinds in (("end.", "failed."), ("begin.",)))
    if trial.backend == OVER_HTTP:  # what a lost run could not deliver is not counted
        least = len(tasks)
    if not least <= reported <= most:
        yield f"job {job}: {reported} runs are counted by their reports, but {most} began and {least} came to their end"


def _in_job(job: str, labels: list[str], state: dict[str, Any], workspace: str, trial: Trial) -> Iterator[str]:
    marks = workspace
    if trial.backend == OVER_HTTP:
        yield from _in_delivered(job, state, workspace)
        marks = f"{workspace.partition('/.air-executor/')[0]}/marks/{job}"
    yield from _in_markers(job, marks)
    yield from _in_state(job, labels, state, marks, trial)


def _in_delivered(job: str, state: dict[str, Any], workspace: str) -> Iterator[str]:
    """What each success has left in its workspace is there."""
    there = set(os.listdir(workspace)) if os.path.isdir(workspace) else set()
    for task in state["tasks"]:
        good = [one["seq"] for one in task.get("attempts", []) if one["reason"] == "ok"]
        missing = {f"done.{task['command'][1]}.{state['uid']}-{seq}" for seq in good if task["runs"]} - there
        if missing:
            yield f"job {job}: what {sorted(missing)} stands for was not delivered"


def _in_task(job: str, uid: str, task: dict[str, Any], markers: set[str], trial: Trial) -> Iterator[str]:
    label = task["command"][1]
    attempts = task.get("attempts", [])
    good = [attempt for attempt in attempts if attempt["reason"] == "ok"]
    if task["phase"] != "succeeded" or len(good) != 1:
        yield f"job {job}: {label} is {task['phase']} with {len(good)} committed successes"
        return
    run = f"{uid}-{good[0]['seq']}"
    items = {"items": trial.items[label]} if label in trial.items else {}
    if task["result"] != {"label": label, "run": run} | items:
        yield f"job {job}: {label} has the result {task['result']}, but run {run} succeeded"
    if good[0].get("reported") != {"runs": 1} or any(one.get("reported", {}).get("runs", 0) > 1 for one in attempts):
        yield f"job {job}: not every report of {label} is counted once: {attempts}"
    for kind in ("begin", "end"):
        if f"{kind}.{label}.{run}" not in markers:
            yield f"job {job}: run {run} of {label} was committed as a success, but has no {kind} marker"
    known = {f"{uid}-{attempt['seq']}" for attempt in attempts}
    begun = {name.rpartition(".")[2] for name in markers if name.startswith(f"begin.{label}.")}
    if begun - known:
        yield f"job {job}: {label} began in runs that the state does not know: {sorted(begun - known)}"


def _in_merge(job: str, task: dict[str, Any], workspace: str, trial: Trial) -> Iterator[str]:
    label = task["command"][1]
    with open(f"{workspace}/inputs.{label}.{task['result']['run']}", encoding="utf-8") as file:
        results = json.load(file).values()
    given = {one["label"] for value in results for one in ([value] if "label" in value else value.values())}
    missing = trial.merges[label] - given
    if missing:
        yield f"job {job}: {label} ran without {sorted(missing)}"
