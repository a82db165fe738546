"""A task with a `worktree` has a git checkout of its own, and no work in one is ever lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.core.explanation import ExplainContext, explain_task
from air_executor.core.short_reason import ShortReasons
from air_executor.errors import BadInputError, StoreError
from air_executor.model.worktree import Worktree, is_branch
from air_executor.store import files, trees, worktrees
from air_executor.store.retention import Retention
from air_executor.store.worktree_notes import notes_of
from tests.conftest import wait_for
from tests.manager.rig import World

OWN = {"id": "a", "worktree": {}}


def git(folder: str | Path, *words: str) -> str:
    """Run git as a user does, and return what it prints."""
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    env = {"PATH": os.environ["PATH"], "HOME": "/nowhere", **who}
    done = subprocess.run(["git", *words], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repository(world: World) -> Iterator[Path]:
    """Return a repository with one commit, which is the project folder."""
    root = Path(world.layout.root).parent
    git(root, "init", "-q", "-b", "main")
    (root / "file").write_text("one\n")
    (root / ".gitignore").write_text("*.o\n/.air-executor/\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")
    yield root
    assert not world.overlaps


def settle(world: World) -> None:
    """Cycle until git has nothing left to do."""

    def is_settled() -> bool:
        world.cycle()
        return not world.manager.preparation.side_work.busy

    wait_for(is_settled, what="git")


def of(world: World) -> worktrees.Worktrees:
    """Return the worktrees of the world's project."""
    return worktrees.Worktrees(world.layout, world.manager.options.project)


def start(world: World, *tasks: Any, job: str = "j", **fields: Any) -> None:  # noqa: ANN401 - JSON
    """Submit a job, and let its first tasks start."""
    world.submit(job, *tasks, **fields)
    settle(world)


def end(world: World, name: str, code: int = 0, **left: Any) -> None:  # noqa: ANN401 - JSON
    """End a run, and let git do what follows."""
    world.do(name, code=code, **left)
    settle(world)


def folder(world: World, job: str = "j", task: str = "a") -> Path:
    """Return where the worktree of a task is."""
    return Path(world.layout.worktree(job, world.job(job).uid, task))


def commit(path: Path, name: str = "new") -> None:
    """Do some work, and commit it."""
    (path / name).write_text("work\n")
    git(path, "add", ".")
    git(path, "commit", "-qm", name)


def explained(world: World, task: str = "a", job: str = "j") -> str:
    """Return what `explain` says of a task."""
    found = world.job(job)
    context = ExplainContext(
        world.clock.wall(),
        waiting=world.manager.scheduler.waiting.get(job),
        worktrees=notes_of(world.layout, found),
    )
    ShortReasons(found, context).of_task(found.tasks[task])
    return explain_task(found, found.tasks[task], context)


def branches(repository: Path) -> list[str]:
    """Return all branches."""
    return git(repository, "for-each-ref", "--format=%(refname:short)", "refs/heads").split()


# The usual


def test_a_task_works_in_its_own_checkout(world: World, repository: Path) -> None:
    """On its own branch; after its success the folder is gone, and its commits are on the branch."""
    start(world, OWN)
    launch = world.launch("j/a")
    path = folder(world)
    assert launch.folder == str(path)
    assert launch.env["AIR_BRANCH"] == "air/j/a"
    assert launch.env["AIR_BASE"] == git(repository, "rev-parse", "main")
    assert git(path, "status", "--porcelain", "--branch") == "## air/j/a"
    assert explained(world).endswith(f"; worktree {path} on branch air/j/a")
    commit(path)
    end(world, "j/a")
    assert not path.exists()
    assert git(repository, "show", "air/j/a:new") == "work"
    assert git(repository, "worktree", "list").count("\n") == 0
    assert git(repository, "status", "--porcelain") == ""
    assert explained(world).startswith("task a succeeded")


def test_no_two_tasks_share_one(world: World, repository: Path) -> None:
    """Nor do tasks of the same id in different jobs, or in a job that takes the id of an archived one."""
    start(world, OWN, OWN | {"id": "b"}, max_runners=2)
    start(world, OWN, job="k")
    paths = {world.launch(name).folder for name in ("j/a", "j/b", "k/a")}
    assert len(paths) == 3
    assert branches(repository) == ["air/j/a", "air/j/b", "air/k/a", "main"]


def test_what_people_give(world: World, repository: Path) -> None:
    """Where the branch begins and what it is called; ids in braces, also of the base, are replaced."""
    git(repository, "branch", "base")
    commit(repository)
    mine = {"base": "base", "branch": "agents/{{task.id}}"}
    start(world, {"id": "w", "worktree": mine}, defaults={"worktree": {"branch": "x/{{ job.id }}-{{ task.id }}"}})
    end(world, "j/w")
    start(
        world,
        {"id": "r"},
        job="k",
        defaults={"worktree": {"base": "agents/w", "branch": "x/{{ job.id }}.{{ task.id }}"}},
    )
    assert branches(repository) == ["agents/w", "base", "main", "x/k.r"]
    assert git(repository, "rev-parse", "x/k.r") == git(repository, "rev-parse", "base")


def test_a_project_below_the_top(world: World, repository: Path) -> None:
    """A project folder in a repository is the same folder in the worktree."""
    below = repository / "below"
    below.mkdir()
    (below / "here").write_text("x")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "below")
    world.restart(project=str(below))
    start(world, OWN)
    assert Path(world.launch("j/a").folder, "here").read_text() == "x"


def test_a_full_volume_keeps_no_worktree_for_ever(
    world: World, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be told for now is looked at again."""
    assert repository.is_dir()
    start(world, OWN)
    path = folder(world)

    def full(*_: object, **__: object) -> None:
        raise StoreError("the volume is full")

    monkeypatch.setattr(files, "write_new", full)
    world.do("j/a")
    settle(world)
    assert path.is_dir()
    monkeypatch.undo()
    world.clock.pass_time(31)
    settle(world)
    assert not path.exists()


@pytest.mark.parametrize("word", ["rev-parse", "show-ref", "worktree", "read-tree", "status", "ls-files", "rev-list"])
def test_a_git_that_was_killed_decides_nothing(
    world: World, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, word: str
) -> None:
    """Whichever of its commands it is, the next try goes on."""
    assert repository.is_dir()
    fake, once = tmp_path / "bin" / "git", tmp_path / "once"
    fake.parent.mkdir()
    real = shutil.which("git")
    fake.write_text(
        f'#!/bin/sh\ncase " $* " in *" {word} "*) mkdir {once} 2>/dev/null && kill $$;; esac\nexec {real} "$@"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    world.submit("j", OWN)
    for _ in range(5):
        settle(world)
        if "j/a" in world.running():
            break
        world.clock.pass_time(31)
    path = folder(world)
    world.do("j/a")
    settle(world)
    world.clock.pass_time(31)
    settle(world)
    assert once.is_dir()
    assert not path.exists()
    assert world.job("j").phase == "succeeded"


@pytest.mark.parametrize("deleted", [False, True])
def test_notes_go_with_their_job(world: World, repository: Path, *, deleted: bool) -> None:
    """Not before: a rerun needs to know whose branch it was."""
    assert repository.is_dir()
    start(world, OWN)
    notes = folder(world).parent
    world.do("j/a")
    settle(world)
    world.stop()
    retention = Retention(world.layout, lambda *_: contextlib.nullcontext())
    list(retention.prune(9e9, delete=False, dry_run=False))
    assert [path.name for path in notes.iterdir()] == [".a.json"]
    if deleted:
        list(retention.prune(9e9, delete=True, dry_run=False))
    assert notes.exists() != deleted


@pytest.mark.parametrize(
    ("keep", "code", "stays"),
    [("always", 0, True), ("on_failure", 0, False), ("on_failure", 1, True), ("never", 1, False), ("never", 0, False)],
)
def test_when_it_stays(world: World, repository: Path, keep: str, code: int, *, stays: bool) -> None:
    """As `keep` says; a task that failed is retried in the same one first. `explain` says where it is and why."""
    start(world, {"id": "a", "retries": 1, "worktree": {"keep": keep}})
    path = folder(world)
    commit(path)
    if code:
        end(world, "j/a", code)
        world.until(lambda: "j/a" in world.running())
        assert (path / "new").exists()
    end(world, "j/a", code)
    assert path.exists() == stays
    assert "air/j/a" in branches(repository)
    why = "keep: always" if keep == "always" else "its task has failed"
    assert explained(world).endswith(f"on branch air/j/a was kept ({why})") == stays


def test_again_and_retry_go_on_in_it(world: World, repository: Path) -> None:
    """So does a retry by the user, even where it was removed: then a new folder is on the same branch."""
    start(world, {"id": "a", "worktree": {"keep": "never"}})
    path = folder(world)
    (path / "half").write_text("done")
    end(world, "j/a", queue=[{"again": {"delay": 10}}])
    world.clock.pass_time(11)
    settle(world)
    assert (path / "half").read_text() == "done"
    (path / ".git").parent.joinpath("half").unlink()
    commit(path)
    end(world, "j/a", 1)
    assert not path.exists()
    assert world.asked("retry", "j") is None
    settle(world)
    assert (path / "new").read_text() == "work\n"
    end(world, "j/a")
    assert world.job("j").phase == "succeeded"


# Work is never lost


def test_a_change_that_no_time_and_no_size_tells_is_kept(world: World, repository: Path) -> None:
    """Git trusts sizes and times in seconds; here what a task wrote within the second of its checkout stays, too."""
    start(world, {"id": "a", "worktree": {"keep": "never"}})
    path = folder(world)
    before = (path / "file").stat()
    (path / "file").write_text("two\n")
    assert (path / "file").stat().st_size == before.st_size
    os.utime(path / "file", ns=(before.st_atime_ns, before.st_mtime_ns))
    time.sleep(1.1)
    end(world, "j/a")
    assert (path / "file").read_text() == "two\n"
    assert " was kept (" in explained(world)


@pytest.mark.parametrize("kind", ["changed", "staged", "new", "detached", "clone", "unreadable", "no index", "no head"])
def test_uncommitted_work_is_kept(world: World, repository: Path, kind: str) -> None:
    """Whatever `keep` says, what is in no commit of a branch stays, and that is said."""
    start(world, {"id": "a", "worktree": {"keep": "never"}})
    path = folder(world)
    if kind in ("changed", "staged"):
        (path / "file").write_text("two\n")
    if kind == "staged":
        git(path, "add", "file")
    if kind == "new":
        (path / "new").mkdir()
        (path / "new" / "x").write_text("x")
    if kind == "detached":
        git(path, "checkout", "-q", "--detach")
        commit(path)
    if kind == "clone":
        git(path, "clone", "-q", str(repository), "sub")
    if kind == "unreadable":
        (path / "file").unlink()
        (path / "file").mkdir()
        (path / "file").chmod(0)
    admin = repository / ".git/worktrees/a"
    if kind == "no index":
        (admin / "index").write_bytes(b"garbage")
    if kind == "no head":
        (admin / "HEAD").write_text("ref: refs/heads/nowhere\n")
    end(world, "j/a")
    assert path.exists()
    assert " was kept (" in explained(world)
    world.restart()
    settle(world)
    assert path.exists()


def test_what_git_ignores_goes(world: World, repository: Path) -> None:
    """As with `git worktree remove`; and commits on another branch are no reason to stay."""
    start(world, OWN)
    path = folder(world)
    (path / "x.o").write_text("x")
    git(path, "checkout", "-qb", "mine")
    commit(path)
    end(world, "j/a")
    assert not path.exists()
    assert git(repository, "show", "mine:new") == "work"


# Refused


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"base": "nowhere"}, "worktree.base: nowhere is no branch, tag or commit"),
        ({"branch": "main"}, "worktree.branch: branch main exists already"),
        ({"branch": "main/x"}, "worktree: git worktree: "),
    ],
)
def test_what_cannot_be(world: World, repository: Path, wanted: dict[str, str], said: str) -> None:
    """The task fails at once and says why; nothing is left behind, and the branch that was there is as it was."""
    start(world, {"id": "a", "retries": 3, "worktree": wanted})
    world.until(lambda: world.job("j").ended)
    settle(world)
    assert world.task("j", "a").reason == "start-failed"
    assert said in (world.task("j", "a").message or "")
    assert not folder(world).exists()
    assert branches(repository) == ["main"]
    assert git(repository, "worktree", "list").count("\n") == 0


def test_no_repository(world: World) -> None:
    """A project folder that is in none is named."""
    start(world, OWN)
    world.until(lambda: world.job("j").ended)
    assert "is in no git repository" in (world.task("j", "a").message or "")


@pytest.mark.parametrize(
    "wanted",
    [
        {"branch": "-x"},
        {"branch": "a..b"},
        {"branch": "a.lock"},
        {"branch": "a b"},
        {"branch": "{{ params.x }}"},
        {"branch": "x" * 201},
        {"branch": "\ud800"},
        {"base": "--help"},
        {"base": ""},
        {"base": "a\nb"},
        {"keep": "sometimes"},
        {"path": "/"},
        "main",
    ],
)
def test_what_is_no_worktree(world: World, wanted: Any) -> None:  # noqa: ANN401 - JSON
    """Wrong fields are refused at submit, with their place."""
    with pytest.raises(BadInputError, match="worktree"):
        world.submit("j", {"id": "a", "worktree": wanted})


@given(st.text(st.sampled_from("a./@{~^: \\*[-\x7flock\té"), max_size=8) | st.text(max_size=6))
def test_branches_are_what_git_takes(name: str) -> None:
    """The rule here refuses all that git refuses."""
    if is_branch(name):
        assert (
            subprocess.run(["git", "check-ref-format", "--branch", name], capture_output=True, check=False).returncode
            == 0
        )


@pytest.mark.parametrize("name", ["a", "a/b", "air/j.1/_1-2", "é", "a@b", "a-", "x{y}", "HEAD/x", "a.b/c_d"])
def test_branches_that_people_use(name: str) -> None:
    """The rule is no narrower than it must be."""
    assert is_branch(name)


def test_ids_that_make_no_branch() -> None:
    """An id can be no part of a branch; the task says so."""
    with pytest.raises(BadInputError, match="git takes no branch named"):
        Worktree().branch_of("j", "a.lock")


# Hostile repositories


def test_nothing_of_the_repository_is_executed(world: World, repository: Path, tmp_path: Path) -> None:
    """Hooks, monitors and filters that tasks have put into a repository do not run as the manager."""
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(trap))
    git(repository, "config", "core.hooksPath", str(tmp_path / "hooks"))
    (tmp_path / "hooks").mkdir()
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        for place in (tmp_path / "hooks" / name, repository / ".git/hooks" / name):
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(trap.read_bytes())
            place.chmod(0o755)
    for how in ("smudge", "clean", "process"):
        git(repository, "config", f"filter.evil.{how}", str(trap))
    (repository / ".git/info/attributes").write_text("* filter=evil\n")
    start(world, OWN)
    path = folder(world)
    assert (path / "file").read_text() == "one\n"
    (path / "file").write_text("one\n")  # its times differ, so git has to look at it
    os.utime(path / "file", (1, 1))
    (path / ".gitattributes").write_text("* filter=evil\n")
    end(world, "j/a")
    assert path.exists()
    assert not (tmp_path / "sprung").exists()


def test_a_checkout_that_was_replaced(world: World, repository: Path, tmp_path: Path) -> None:
    """A task that replaces its worktree by a link costs no other folder anything."""
    start(world, OWN)
    path = folder(world)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("x")
    path.rename(repository / "elsewhere")
    path.symlink_to(victim)
    end(world, "j/a")
    assert (victim / "precious").exists()


# Crashes


def _die_at(monkeypatch: pytest.MonkeyPatch, name: str, module: ModuleType, call: int) -> None:
    real, calls = getattr(module, name), [0]

    def dies(*given: Any, **more: Any) -> Any:  # noqa: ANN401 - whatever the step takes
        calls[0] += 1
        if calls[0] == call:
            raise KeyboardInterrupt
        return real(*given, **more)

    monkeypatch.setattr(module, name, dies)


def _interrupted(world: World, monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Make the next worktree, and die in it at the given call of a step."""
    _die_at(monkeypatch, name, worktrees, call)
    owner = worktrees.Owner("j", world.job("j").uid, "a")
    with contextlib.suppress(KeyboardInterrupt):
        of(world).make(owner, Worktree(), world.manager.state.staging)
    monkeypatch.undo()


@pytest.mark.parametrize(("name", "call"), [("git", n) for n in range(1, 6)] + [("admin_of", 1), ("admin_of", 2)])
@pytest.mark.parametrize("cancelled", [False, True])
def test_a_death_while_it_is_made(
    world: World, repository: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int, *, cancelled: bool
) -> None:
    """The next manager makes it whole; where its task was cancelled meanwhile, it removes what is left."""
    world.submit("j", {"id": "a", "delay": "1h", "worktree": {}}, "b")
    world.cycle()
    _interrupted(world, monkeypatch, name, call)
    world.restart()
    settle(world)
    if cancelled:
        assert world.asked("cancel", "j", "a") is None
        settle(world)
        assert not folder(world).exists()
        assert git(repository, "worktree", "list").count("\n") == 0
        return
    world.clock.pass_time(3601)
    world.do("j/b")
    settle(world)
    path = folder(world)
    assert (path / "file").read_text() == "one\n"
    assert git(path, "status", "--porcelain") == ""
    end(world, "j/a")
    assert not path.exists()


@pytest.mark.parametrize("when", ["before the removal", "in the removal", "after the move"])
def test_a_death_at_the_end(world: World, repository: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """The next manager removes what this one has not."""
    start(world, OWN)
    path, owner = folder(world), worktrees.Owner("j", world.job("j").uid, "a")
    monkeypatch.setattr(world.manager.preparation.worktrees, "settle", lambda: None)
    world.do("j/a")
    if when != "before the removal":
        # The first of each is for the question whether anything would be lost.
        _die_at(monkeypatch, *(("remove_tree", trees) if when == "after the move" else ("admin_of", worktrees)), call=2)
        with pytest.raises(KeyboardInterrupt):
            of(world).remove(owner, world.manager.state.staging)
        assert not path.exists()
    monkeypatch.undo()
    world.restart()
    settle(world)
    assert not path.exists()
    assert world.job("j").phase == "succeeded"


def test_a_rewound_state(world: World, repository: Path) -> None:
    """A task that has not run yet in the state that was checked out goes on with its own branch."""
    start(world, OWN, "b")
    state = Path(world.layout.state("j")).read_bytes()
    commit(folder(world))
    end(world, "j/a")
    world.do("j/b")
    world.stop()
    Path(world.layout.state("j")).write_bytes(state)
    world.start()
    settle(world)
    world.until(lambda: "j/a" in world.running())
    assert (folder(world) / "new").exists()


def test_a_strangers_folder(world: World, repository: Path) -> None:
    """What is in the place of a worktree and was not made here stays, and the task says so."""
    state = world.submit("j", OWN)
    path = Path(world.layout.worktree("j", state.uid, "a"))
    path.mkdir(parents=True)
    (path / "precious").write_text("x")
    settle(world)
    world.until(lambda: world.job("j").ended)
    assert "is in the way" in (world.task("j", "a").message or "")
    assert (path / "precious").exists()
    world.restart()
    assert (path / "precious").exists()


def test_a_note_that_cannot_be_read(world: World, repository: Path) -> None:
    """Costs its own task alone."""
    start(world, OWN, OWN | {"id": "b"}, max_runners=2)
    note = Path(world.layout.worktree_note("j", world.job("j").uid, "a"))
    note.write_text(json.dumps(json.loads(note.read_text()) | {"uid": "0" * 24}))
    end(world, "j/b")
    assert not folder(world, task="b").exists()
    end(world, "j/a")
    assert folder(world).exists()
    assert world.job("j").phase == "succeeded"
