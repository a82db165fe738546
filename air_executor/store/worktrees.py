"""Git worktrees of tasks on the volume: made whole, found again, inspected before they go.

`worktrees/<job>-<uid>/<task>/` is the checkout, `.<task>.json` beside it a note that is there before and after.
Called by the manager's worktree threads; decides nothing about jobs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from air_executor.errors import BadInputError, CorruptFileError, NotFoundError, PathBlockedError, StoreError
from air_executor.model import parsing
from air_executor.model.worktree import Worktree, WorktreeNote, fill_in
from air_executor.store import files, trees
from air_executor.store.git import GitError, git, is_object, private_folder
from air_executor.store.layout import Layout
from air_executor.store.worktree_notes import read_file, read_note

MAX_HEAD = 4096
_LOCKS = ("index.lock", "HEAD.lock")
"""What a run that was killed leaves in the way of the next one."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The task that has a worktree."""

    job: str
    uid: str
    task: str


@dataclass(frozen=True, slots=True)
class Checkout:
    """A worktree that is ready."""

    path: str
    prefix: str
    """Path of the project folder in it; empty: its top."""
    repository: str
    """The repository's own folder, `.git`."""
    admin: str
    """The folder in that for this worktree."""
    branch: str
    commit: str
    """At which its branch began."""

    @property
    def project(self) -> str:
        """The project folder as it is here."""
        return f"{self.path}/{self.prefix}".rstrip("/")


class Worktrees:
    """The worktrees of one state directory."""

    def __init__(self, layout: Layout, project: str) -> None:
        """`project`: the folder whose repository they belong to."""
        self._layout = layout
        self._project = project

    # Notes

    def note(self, owner: Owner) -> WorktreeNote | None:
        """Return what is noted of the worktree of a task; None: it never had one.

        Raises:
            StoreError: it cannot be read, or is another task's.
        """
        return read_note(self._layout, owner.job, owner.uid, owner.task)

    def _write(self, note: WorktreeNote, staging: str) -> None:
        path = self._layout.worktree_note(note.job, note.uid, note.task)
        files.make_dir(os.path.dirname(path))
        files.replace_own(path, parsing.dump_json(note), staging)

    def existing(self) -> list[WorktreeNote | str]:
        """Return the notes of all folders here; in place of one that cannot be read, why.

        Raises:
            StoreError: the volume refused.
        """
        found: list[WorktreeNote | str] = []

        def folders(path: str) -> list[str]:
            try:
                return files.list_folders(path)
            except PathBlockedError as error:  # somebody has put another thing in its place: no reason not to start
                found.append(str(error))
                return []

        top = self._layout.worktrees
        for folder in folders(top):
            for name in folders(f"{top}/{folder}"):
                note = None
                try:
                    note = read_file(f"{top}/{folder}/.{name}.json")
                except StoreError as error:
                    found.append(str(error))
                if (
                    note is not None
                    and self._layout.worktree(note.job, note.uid, note.task) == f"{top}/{folder}/{name}"
                ):
                    found.append(note)
        return found

    # Making

    def make(self, owner: Owner, wanted: Worktree, staging: str) -> Checkout:
        """Return the worktree of a task, which is made unless it is there. May be repeated after a crash.

        Raises:
            BadInputError: it can never be made as things are.
            StoreError: something refused; another try may succeed.
        """
        note = self.note(owner)
        if note is not None and note.ready and (found := self._checkout(note)) is not None:
            if note.kept is not None:
                self._write(replace(note, kept=None), staging)
            return found
        path = self._layout.worktree(owner.job, owner.uid, owner.task)
        if os.path.lexists(path) and (note is None or note.ready):
            why = "no note says whose it is" if note is None else "git knows nothing of it any more"
            msg = f"worktree: {path} is in the way, and {why}; move it away"
            raise BadInputError(msg)
        branch = wanted.branch_of(owner.job, owner.task)
        repository, prefix = self._repository()
        if note is not None:  # half made, or removed
            self._discard(note, staging)
        base = fill_in(wanted.base, owner.job, owner.task)
        commit = self._commit(base, repository)
        mine = note is not None and note.branch == branch
        exists = _has_branch(branch, repository)
        if exists and not mine:
            msg = f"worktree.branch: branch {branch} exists already; delete it, or give the worktree another branch"
            raise BadInputError(msg)
        start = self._commit(f"refs/heads/{branch}", repository) if exists else commit
        if exists and note is not None:
            commit = note.commit
        made = WorktreeNote(
            job=owner.job,
            uid=owner.uid,
            task=owner.task,
            repository=repository,
            branch=branch,
            commit=commit,
            prefix=prefix,
        )
        self._write(made, staging)
        names = [path, branch] if exists else ["--no-track", "-b", branch, path, commit]
        try:
            git(["worktree", "add", "--quiet", "--no-checkout", *names], repository)
        except GitError as error:
            msg = f"worktree: {error}"
            raise (StoreError if _is_full(msg) else BadInputError)(msg) from error
        admin = admin_of(path, repository)
        if admin is None:
            msg = f"worktree: git has not made {path}"
            raise StoreError(msg)
        self._fill(path, admin, start, made, staging)
        made = replace(made, ready=True, admin=os.path.basename(admin))
        self._write(made, staging)
        found = self._checkout(made)
        if found is None:
            msg = f"worktree: {path} is gone again"
            raise StoreError(msg)
        return found

    def _repository(self) -> tuple[str, str]:
        """Return the folder of the project's repository, and the project's path in its checkout."""
        words = ["rev-parse", "--path-format=absolute", "--git-common-dir", "--show-prefix"]
        try:
            lines = git(words, self._project).split("\n")
        except (GitError, NotFoundError) as error:
            msg = f"worktree: the project folder {self._project} is in no git repository: {error}"
            raise BadInputError(msg) from error
        if len(lines) != 3:  # noqa: PLR2004 - two lines
            msg = f"worktree: the path of the repository of {self._project} has a line break"
            raise BadInputError(msg)
        return lines[0], lines[1].rstrip("/")

    def _commit(self, name: str, repository: str) -> str:
        try:
            found = git(["rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"], repository).strip()
        except GitError:
            found = ""
        if not is_object(found):
            msg = f"worktree.base: {name} is no branch, tag or commit of {repository}"
            raise BadInputError(msg)
        return found

    def _fill(self, path: str, admin: str, commit: str, note: WorktreeNote, staging: str) -> None:
        """Write the files of a commit into a worktree that has none."""
        private = f"{staging}/git-{files.random_hex(6)}"
        try:
            variables = private_folder(private, note.repository, commit)
            more = {**variables, "GIT_WORK_TREE": path, "GIT_INDEX_FILE": f"{admin}/index"}
            git(["read-tree", "--reset", "-u", commit], path, **more)
        finally:
            trees.remove_tree(private)

    def _checkout(self, note: WorktreeNote) -> Checkout | None:
        path = self._layout.worktree(note.job, note.uid, note.task)
        admin = admin_of(path, note.repository, note.admin) if os.path.isdir(path) else None
        if admin is None:
            return None
        return Checkout(path, note.prefix, note.repository, admin, note.branch, note.commit)

    # Use

    @staticmethod
    def make_usable(checkout: Checkout) -> None:
        """Remove the locks that a run which was killed has left, and make the folders that a commit writes to.

        Nothing runs in the worktree.

        Raises:
            StoreError: the volume refused.
        """
        for name in _LOCKS:
            files.remove(f"{checkout.admin}/{name}")
        heads = os.path.dirname(f"refs/heads/{checkout.branch}")
        for folder in (heads, f"logs/{heads}"):
            files.make_dir(f"{checkout.repository}/{folder}")

    # End

    def remove(self, owner: Owner, staging: str) -> str | None:
        """Remove the worktree of a task; its branch stays. Return why it was kept, if something would be lost.

        Raises:
            StoreError: something refused; another try may succeed.
        """
        note = self.note(owner)
        path = self._layout.worktree(owner.job, owner.uid, owner.task)
        if note is None:
            return None
        if note.ready and os.path.isdir(path) and (why := self._unsaved(note, staging)) is not None:
            self.keep(owner, why, staging)
            return why
        self._discard(note, staging)
        return None

    def keep(self, owner: Owner, why: str, staging: str) -> None:
        """Note why a worktree stays; a half-made one does not. Raises StoreError."""
        note = self.note(owner)
        if note is not None and not note.ready:
            self._discard(note, staging)
        elif note is not None and note.kept != why:
            self._write(replace(note, kept=why), staging)

    def _discard(self, note: WorktreeNote, staging: str) -> None:
        """Remove a folder of which nothing is lost, and what git knows of it."""
        path = self._layout.worktree(note.job, note.uid, note.task)
        doomed = f"{staging}/worktree-{files.random_hex(6)}"
        if os.path.lexists(path):
            if note.ready:
                self._write(replace(note, ready=False, kept=None), staging)
            files.move(path, doomed)
            trees.remove_tree(doomed)
        elif note.ready:
            self._write(replace(note, ready=False, kept=None), staging)
        admin = admin_of(path, note.repository, note.admin)
        if admin is not None:
            trees.remove_tree(admin)

    def _unsaved(self, note: WorktreeNote, staging: str) -> str | None:
        """Return what would be lost with a worktree: what is in no commit, and commits that nothing leads to.

        Raises:
            StoreError: the volume refused; another try may tell.
        """
        path = self._layout.worktree(note.job, note.uid, note.task)
        admin = admin_of(path, note.repository, note.admin)
        if admin is None:
            return "git knows nothing of it any more"
        private = f"{staging}/git-{files.random_hex(6)}"
        try:
            head = self._head(admin, note.repository)
            variables = private_folder(private, note.repository, head)
            index = files.read(f"{admin}/index", 1 << 30)
            # So old that git compares the content of each file: a change within a second of the checkout that keeps a
            # file's size is noticed only where the index is not newer than the file ("racy git").
            files.write_new(f"{private}/index", b"" if index is None else index[0], sync=False, changed_at=1)
            more = {**variables, "GIT_WORK_TREE": path}
            words = ["status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=dirty", "--no-renames"]
            changed = git(words, path, **more).splitlines()
            listed = git(["ls-files", "--stage", "-z"], path, **more).split("\0")
            modules = [line.partition("\t")[2] for line in listed if line.startswith("160000 ")]
            free = git(
                ["rev-list", "--max-count=1", head, "--not", "--branches", "--tags", "--remotes"], note.repository
            )
        except (BadInputError, CorruptFileError, GitError, NotFoundError, PathBlockedError) as error:
            if _is_full(str(error)):
                raise StoreError(str(error)) from error
            return f"whether all work in it is committed is unknown: {error}"
        finally:
            trees.remove_tree(private)
        if changed:
            count = f"{len(changed)} path{'' if len(changed) == 1 else 's'}"
            return f"{count} in it with work that is not committed"
        if any(_has_entries(f"{path}/{module}") for module in modules):
            return "a submodule in it has files"
        return f"no branch has its commit {head[:12]}" if free.strip() else None

    def _head(self, admin: str, repository: str) -> str:
        """Return the commit of a worktree's HEAD."""
        found = files.read(f"{admin}/HEAD", MAX_HEAD)
        text = "" if found is None else found[0].decode(errors="replace").strip()
        return text if is_object(text) else self._commit(text.removeprefix("ref: "), repository)


def _has_entries(path: str) -> bool:
    try:
        return bool(os.listdir(path))
    except OSError:
        return False


def _is_full(message: str) -> bool:
    return "No space left" in message or "Disk quota" in message


def _has_branch(branch: str, repository: str) -> bool:
    try:
        git(["show-ref", "--verify", "--quiet", f"refs/heads/{branch}"], repository)
    except GitError:
        return False
    return True


def admin_of(path: str, repository: str, known: str | None = None) -> str | None:
    """Return the folder that git has for a worktree at a path, `known` by its name; None if it has none."""
    wanted = f"{path}/.git"
    for name in files.list_folders(f"{repository}/worktrees"):
        if known not in (None, name):
            continue
        try:
            found = files.read(f"{repository}/worktrees/{name}/gitdir", MAX_HEAD)
        except CorruptFileError:
            continue
        if found is not None and found[0].decode(errors="surrogateescape").strip() == wanted:
            return f"{repository}/worktrees/{name}"
    return None
