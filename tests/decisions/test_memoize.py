"""A task with `memoize` has the result of an earlier run that depended on the same, at no runner and no cost."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from air_executor.core import cost_report, ledger
from air_executor.core.explanation import ExplainContext, explain_task
from air_executor.core.short_reason import ShortReasons
from air_executor.errors import BadInputError
from air_executor.model.memo import check_memoize
from air_executor.store import files, memo_cache, memo_key
from tests.decisions.test_worktree import settle
from tests.manager.rig import World
from tests.manager.test_features import outcome

MEMO = {"key": ["v1"], "for": "7d"}


def task(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a task that is memoized."""
    return {"id": "a", "command": "do", "memoize": MEMO} | more


def start(world: World, job: str, *tasks: Any, **fields: Any) -> None:  # noqa: ANN401 - JSON
    """Submit a job, and let its tasks start."""
    world.submit(job, *(tasks or (task(),)), **fields)
    settle(world)


def run(world: World, job: str, *tasks: Any, files: dict[str, str] | None = None, **left: Any) -> None:  # noqa: ANN401 - JSON
    """Run a job of one task that is not in the cache."""
    start(world, job, *tasks)
    for name, text in (files or {}).items():
        path = Path(world.layout.workspace(job), name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    world.do(f"{job}/a", **left)
    settle(world)


def is_cached(world: World, job: str, name: str = "a") -> bool:
    """Tell whether a task had no run."""
    found = world.task(job, name)
    assert (found.cached is not None) == (found.phase == "succeeded" and not found.runs)
    return found.cached is not None


def entries(world: World) -> list[str]:
    """Return what is in the cache."""
    return sorted(os.listdir(world.layout.cache)) if os.path.isdir(world.layout.cache) else []


def test_a_result_is_used_again(world: World) -> None:
    """With the named files of the workspace; status, explain and report say so, and it costs nothing."""
    memo = MEMO | {"outputs": ["out/model.bin"]}
    run(world, "j", task(memoize=memo), files={"out/model.bin": "model"}, result={"n": 1})
    assert not is_cached(world, "j")
    start(world, "k", task(memoize=memo), {"id": "b", "after": ["a"]})
    assert is_cached(world, "k")
    assert world.task("k", "a").result == {"n": 1}
    assert Path(world.layout.workspace("k"), "out/model.bin").read_text() == "model"
    assert json.loads(Path(world.launch("k/b").out_dir, "inputs.json").read_text()) == {"a": {"n": 1}}
    world.do("k/b")
    job = world.job("k")
    assert (job.usage.runs, outcome(world, "k")) == (1, ("succeeded", "ok"))
    context = ExplainContext(world.clock.wall())
    assert explain_task(job, job.tasks["a"], context).startswith("task a succeeded: cached, from run ")
    assert ShortReasons(job, context).of_task(job.tasks["a"]) == "cached, from job j"
    report = cost_report.cost_report(ledger.read([job]), world.clock.wall())
    assert report.reused.tasks == 1
    assert report.reused.seconds == pytest.approx(world.task("j", "a").attempts[0].runner_seconds)
    world.restart()
    assert world.task("k", "a").cached is not None


def test_entries_are_files_that_people_read(world: World) -> None:
    """What the key was made of is in words."""
    run(world, "j", task(env={"A": "1"}), result=7)
    (name,) = entries(world)
    entry = json.loads(Path(world.layout.cache, name, "entry.json").read_text())
    assert entry["key"] == name
    assert entry["depends"]["command"] == "do"
    assert entry["depends"]["key"] == ["v1"]
    assert (entry["job"], entry["task"], entry["result"]) == ("j", "a", 7)


@pytest.mark.parametrize(
    ("change", "cached"),
    [
        ({}, True),
        ({"retries": 3, "timeout": 9, "labels": {"a": "b"}}, True),
        ({"command": "other"}, False),
        ({"command": ["do"]}, False),
        ({"image": "python:3"}, False),
        ({"env": {"A": "2"}}, False),
        ({"workdir": "x"}, False),
        ({"memoize": MEMO | {"key": ["v2"]}}, False),
        ({"memoize": MEMO | {"key": ["v1", "v1"]}}, False),
        ({"memoize": MEMO | {"for": "1d"}}, True),
    ],
)
def test_what_the_key_has(world: World, change: dict[str, Any], *, cached: bool) -> None:
    """Command, image, environment, folder and the parts of the key: another one is another result."""
    run(world, "j")
    start(world, "k", task(**change))
    assert is_cached(world, "k") == cached


def test_files_count_by_content(world: World) -> None:
    """Of the project folder and the workspace; folders with all that is in them; a file that is missing counts, too."""
    root = Path(world.layout.root).parent
    memo = {"key": [{"file": "src"}, {"file": "gone"}, {"workspace": "data"}]}
    (root / "src/deep").mkdir(parents=True)
    (root / "src/deep/x.py").write_text("one")

    def begin(job: str) -> bool:
        world.submit(job, task(memoize=memo), workspace={"data": b"data"})
        settle(world)
        found = is_cached(world, job)
        if not found:
            world.do(f"{job}/a")
            settle(world)
        return found

    assert not begin("j1")
    os.utime(root / "src/deep/x.py", (1, 1))
    assert begin("j2")
    (root / "src/deep/x.py").write_text("two")
    assert not begin("j3")
    (root / "src/deep/y.py").write_text("")
    assert not begin("j4")
    (root / "gone").write_text("")
    assert not begin("j5")
    (root / "src/link").symlink_to("/etc/hostname")
    assert not begin("j6")
    assert begin("j7")


def test_parameters_and_results_in_the_key(world: World) -> None:
    """By their names in braces."""
    memo = {"key": ["{{ params.R }}", "{{ results.x.n }}"]}
    for job, region, n, cached in (
        ("j", "eu", 1, False),
        ("k", "eu", 1, True),
        ("l", "us", 1, False),
        ("m", "eu", 2, False),
    ):
        start(world, job, {"id": "x"}, task(memoize=memo, after=["x"]), params={"R": region})
        world.do(f"{job}/x", result={"n": n})
        settle(world)
        assert is_cached(world, job) == cached
        if not cached:
            world.do(f"{job}/a")
            settle(world)


def test_failures_are_not_kept(world: World) -> None:
    """Nor is what queued something, asked for another run, or changed what it depends on."""
    run(world, "f", code=1)
    run(world, "q", queue=[{"id": "b", "command": "x"}])
    run(world, "c", queue=[{"job": {"id": "child", "tasks": [{"command": "y"}]}}])
    assert entries(world) == []
    memo = {"key": [{"workspace": "data"}]}
    world.submit("w", task(memoize=memo), workspace={"data": b"1"})
    settle(world)
    Path(world.layout.workspace("w"), "data").write_text("2")
    world.do("w/a")
    settle(world)
    assert entries(world) == []
    run(world, "u", queue=[{"usage": {"usd": 1}}, {"progress": {"done": 1}}])
    assert len(entries(world)) == 1


def test_an_allowed_failure_is_not_kept(world: World) -> None:
    """It counts as success for others, but has no result."""
    run(world, "j", task(allow_failure=True), code=1)
    assert entries(world) == []


def test_age(world: World) -> None:
    """An entry is used for as long as the task says, and removed when its own time is over."""
    run(world, "j")
    world.clock.pass_time(2 * 86_400)
    start(world, "k", task(memoize=MEMO | {"for": "1d"}))
    assert not is_cached(world, "k")
    world.do("k/a")
    settle(world)
    world.clock.pass_time(43_200)
    start(world, "l", task(memoize=MEMO | {"for": "2d"}))
    assert is_cached(world, "l")
    assert len(entries(world)) == 1
    world.clock.pass_time(8 * 86_400)
    settle(world)
    assert entries(world) == []


def test_rerun_runs_and_renews(world: World) -> None:
    """Who asks for a run gets one; the next job has its result."""
    run(world, "j", result=1)
    start(world, "k")
    assert is_cached(world, "k")
    assert world.asked("rerun", "k", "a") is None
    settle(world)
    world.do("k/a", result=2)
    settle(world)
    assert world.task("k", "a").cached is None
    start(world, "l")
    assert world.task("l", "a").result == 2


# Trouble


@pytest.mark.parametrize(
    "kind", ["no json", "other key", "no entry", "file changed", "file missing", "a link", "newer"]
)
def test_a_corrupt_entry_is_a_miss(world: World, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The task runs, and it is said; the entry is moved away for people to look at."""
    memo = MEMO | {"outputs": ["o"]}
    run(world, "j", task(memoize=memo), files={"o": "right"})
    (name,) = entries(world)
    folder = Path(world.layout.cache, name)
    entry, file = folder / "entry.json", folder / "files/0"
    if kind == "no json":
        entry.write_bytes(b"{garbage")
    if kind == "other key":
        entry.write_text(entry.read_text().replace(name, "0" * 40))
    if kind == "no entry":
        entry.unlink()
    if kind == "file changed":
        file.write_text("wrong")
    if kind == "file missing":
        file.unlink()
    if kind == "a link":
        file.unlink()
        file.symlink_to("/etc/hostname")
    if kind == "newer":
        entry.write_text(json.dumps(json.loads(entry.read_text()) | {"format": 99}))
    start(world, "k", task(memoize=memo))
    assert not is_cached(world, "k")
    assert "cached result cannot be used" in caplog.text
    assert f"{name}.corrupt" in entries(world)
    Path(world.layout.workspace("k"), "o").write_text("right")
    world.do("k/a")
    settle(world)
    start(world, "l", task(memoize=memo))
    assert is_cached(world, "l")


def test_links_in_a_workspace(world: World, tmp_path: Path) -> None:
    """A cached file is never written through a link, and nothing is kept through one."""
    memo = MEMO | {"outputs": ["d/o"]}
    run(world, "j", task(memoize=memo), files={"d/o": "x"})
    world.submit("k", task(memoize=memo))
    Path(world.layout.workspace("k")).mkdir()
    Path(world.layout.workspace("k"), "d").symlink_to(tmp_path)
    settle(world)
    assert not (tmp_path / "o").exists()
    assert not is_cached(world, "k")
    world.submit("l", task(memoize=memo | {"key": ["v2"]}))
    settle(world)
    secret = tmp_path / "secret"
    secret.write_text("x")
    Path(world.layout.workspace("l"), "d").mkdir()
    Path(world.layout.workspace("l"), "d/o").symlink_to(secret)
    world.do("l/a")
    settle(world)
    assert len(entries(world)) == 1


def test_two_at_once(world: World) -> None:
    """Two jobs that fill the same key at once both succeed, and one of their results is kept whole."""
    start(world, "j")
    start(world, "k")
    assert {"j/a", "k/a"} <= world.running().keys()
    world.do("j/a", result=1)
    world.do("k/a", result=2)
    settle(world)
    start(world, "l")
    assert world.task("l", "a").result in (1, 2)
    assert len(entries(world)) == 1


def test_a_task_that_comes_next_has_it(world: World) -> None:
    """A result that is still being kept is waited for: a task that follows at once has it."""
    start(world, "j", task(), task(id="b", after=["a"]))
    world.do("j/a", result=1)
    settle(world)
    assert is_cached(world, "j", "b")
    assert outcome(world, "j") == ("succeeded", "ok")


def test_many_threads_one_entry(world: World, tmp_path: Path) -> None:
    """Whoever is first keeps its own."""
    run(world, "j", result=1)
    cache, (name,) = memo_cache.MemoCache(world.layout), entries(world)
    entry = cache.find(name, world.clock.wall(), 10)
    assert entry is not None
    os.rename(f"{world.layout.cache}/{name}", f"{world.layout.root}/gone")
    kept: list[bool] = []

    def store() -> None:
        kept.append(cache.store(entry, [], str(tmp_path), world.manager.state.staging, replaces=False))

    threads = [threading.Thread(target=store) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert kept.count(True) >= 1
    assert cache.find(name, world.clock.wall(), 10) == entry


def test_another_thread_moves_an_old_entry_away(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever then finds none to move away keeps its own."""
    run(world, "j", result=1)
    cache, (name,) = memo_cache.MemoCache(world.layout), entries(world)
    entry = cache.find(name, world.clock.wall(), 10)
    assert entry is not None
    os.rename(f"{world.layout.cache}/{name}", f"{world.layout.root}/gone")
    is_folder, old = os.path.isdir, f"{world.layout.cache}/{name}"
    monkeypatch.setattr(os.path, "isdir", lambda path: path == old or is_folder(path))
    assert cache.store(entry, [], str(tmp_path), world.manager.state.staging, replaces=True)
    assert cache.find(name, world.clock.wall(), 10) == entry


def test_an_entry_that_comes_while_it_is_looked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found, and not taken for a broken one and moved away."""
    run(world, "j", result=1)
    cache, (name,) = memo_cache.MemoCache(world.layout), entries(world)
    place, away = f"{world.layout.cache}/{name}", f"{world.layout.root}/away"
    os.rename(place, away)
    read = files.read

    def read_late(path: str, most: int) -> object:
        found = read(path, most)
        if os.path.exists(away):
            os.rename(away, place)
        return found

    monkeypatch.setattr(files, "read", read_late)
    assert cache.find(name, world.clock.wall(), 10) is not None
    assert entries(world) == [name]


@pytest.mark.parametrize("where", ["before the journal", "after the journal"])
def test_a_crash_commits_it_once(world: World, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A manager that dies around the decision leaves a task that has its result, once."""
    run(world, "j", result=1)
    world.delay_checkpoints(monkeypatch)
    world.submit("k", task(), {"id": "b", "after": ["a"]})
    if where == "before the journal":
        monkeypatch.setattr(world.manager.act_queue, "write_journal", lambda: False)
        for _ in range(3):
            world.cycle()
    else:
        settle(world)
    monkeypatch.undo()
    world.restart()
    settle(world)
    assert is_cached(world, "k")
    assert world.task("k", "a").result == 1
    world.do("k/b")
    assert outcome(world, "k") == ("succeeded", "ok")


def test_a_cancelled_task_has_no_result(world: World) -> None:
    """Nor has one whose job ended while the cache was looked at."""
    run(world, "j")
    world.submit("k", task())
    world.cycle()
    assert world.asked("cancel", "k") is None
    settle(world)
    assert world.job("k").phase == "cancelled"
    assert world.task("k", "a").cached is None


def test_too_much_for_a_key(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of too many files is said, and the task runs."""
    monkeypatch.setattr(memo_key, "MOST_FILES", 1)
    root = Path(world.layout.root).parent
    for name in "ab":
        (root / name).write_text(name)
    run(world, "j", task(memoize={"key": [{"file": "a"}, {"file": "b"}]}))
    assert outcome(world, "j") == ("succeeded", "ok")


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"key": []},
        {"key": "v1"},
        {"key": [{"file": "../x"}]},
        {"key": [{"file": "/etc/passwd"}]},
        {"key": [{"file": "a", "workspace": "b"}]},
        {"key": [{"path": "x"}]},
        {"key": [None]},
        {"key": ["x\0"]},
        {"key": ["x"], "for": 0},
        {"key": ["x"], "outputs": ["../x"]},
        {"key": ["x"], "outputs": ["."]},
        {"key": ["x"], "files": []},
        "v1",
    ],
)
def test_what_is_no_memoize(world: World, wrong: Any) -> None:  # noqa: ANN401 - JSON
    """Refused at submit, with its place."""
    with pytest.raises(BadInputError, match="memoize"):
        world.submit("j", task(memoize=wrong))


def test_forms() -> None:
    """Numbers and days are text, paths have one form, and the form that is stored is accepted, too."""
    found = check_memoize({"key": [1, True, {"file": "a//b/./c/"}], "for": "1h", "outputs": ["./x"]})
    assert found == {"key": ["1", "true", {"file": "a/b/c"}], "outputs": ["x"], "for": 3600}
    assert check_memoize(found) == found


@pytest.mark.parametrize("memo", [{"key": ["v"], "outputs": ["model"]}, {"key": [{"workspace": "data"}]}])
def test_files_of_a_workspace_in_an_object_store(quick_path: Path, memo: dict[str, Any]) -> None:
    """The manager has none of them: such a task is refused with what to do, and results without files are cached."""
    world = World(quick_path / "project", stored_workspaces=True)
    world.start()
    start(world, "j", task(memoize=memo))
    found = world.task("j", "a")
    assert (found.phase, found.reason) == ("failed", "start-failed")
    assert "memoize: with AIR_WORKSPACE_STORE" in str(found.attempts[-1].message)
    run(world, "k", result=1)
    start(world, "l")
    assert is_cached(world, "l")
    assert entries(world) != []
