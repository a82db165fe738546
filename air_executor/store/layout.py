"""Every path in a state directory, in one class. Computes names; touches nothing.

Paths are plain strings: they are built several times per run, and `pathlib` costs more than the file operation.
"""

from __future__ import annotations

import os
import re

from air_executor.model.names import Slot

INDEX = "workspace.index"
"""Of a workspace whose files lie in an object store."""
_SLOT_FILE = re.compile(r"runner-([1-9][0-9]{0,4})\.pid")


class Layout:
    """The paths below one state directory."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(os.fspath(root))
        self.gitignore = f"{self.root}/.gitignore"
        self.lock = f"{self.root}/manager.lock"
        self.manager = f"{self.root}/manager.json"
        self.counters = f"{self.root}/counters.json"
        self.journal = f"{self.root}/journal"
        self.tmp = f"{self.root}/tmp"  # noqa: S108 - ours, not the system's
        self.bin = f"{self.root}/bin"
        self.inbox = f"{self.root}/inbox"
        self.refused = f"{self.inbox}/refused"
        self.jobs = f"{self.root}/jobs"
        self.archive = f"{self.root}/archive"
        self.ledger = f"{self.root}/ledger"
        self.schedules = f"{self.root}/schedules"
        self.notes = f"{self.root}/notes"
        self.tokens = f"{self.root}/tokens.json"
        self.first_token = f"{self.root}/first-token"
        self.audit = f"{self.root}/audit.jsonl"
        self.run_key = f"{self.root}/run-tokens.key"
        self.cache = f"{self.root}/cache"
        self.worktrees = f"{self.root}/worktrees"
        self.caches = f"{self.root}/caches"

    def schedule(self, name: str) -> str:
        """One schedule."""
        return f"{self.schedules}/{name}.json"

    def settled(self, name: str) -> str:
        """Up to which time the manager has settled a schedule."""
        return f"{self.schedules}/.settled/{name}"

    def epoch_tmp(self, epoch: int) -> str:
        """Where the manager of this epoch builds what it renames into place."""
        return f"{self.tmp}/{epoch}"

    def journal_file(self, epoch: int, number: int) -> str:
        """One journal file."""
        return f"{self.journal}/{epoch}-{number}.jsonl"

    def job(self, job: str) -> str:
        """One job's directory."""
        return f"{self.jobs}/{job}"

    def state(self, job: str) -> str:
        """One job's checkpoint."""
        return f"{self.jobs}/{job}/state.json"

    def workspace(self, job: str) -> str:
        """The folder that the job's tasks share."""
        return f"{self.jobs}/{job}/workspace"

    def workspace_index(self, job: str) -> str:
        """What is in the job's workspace, where its files lie in an object store."""
        return f"{self.jobs}/{job}/{INDEX}"

    def runs(self, job: str) -> str:
        """Where the job's run directories are."""
        return f"{self.jobs}/{job}/runs"

    def superseded(self, job: str) -> str:
        """Where run directories go that a rewind has left behind."""
        return f"{self.jobs}/{job}/runs/.superseded"

    def note(self, about: str, name: str) -> str:
        """What a client has noted about a job, `<id>-<uid>`, or about all jobs whose ids begin with the same word."""
        return f"{self.notes}/{about}.{name}"

    def run(self, job: str, seq: int, task: str) -> str:
        """One run's directory."""
        return f"{self.jobs}/{job}/runs/{seq}-{task}"

    def named_cache(self, name: str) -> str:
        """The folder of a cache that tasks name."""
        return f"{self.caches}/{name}"

    def worktree(self, job: str, uid: str, task: str) -> str:
        """The git worktree of a task. Not in the job's directory: git knows it by its path, which must not change."""
        return f"{self.worktrees}/{job}-{uid[:8]}/{task}"

    def worktree_note(self, job: str, uid: str, task: str) -> str:
        """What is noted of it; ids of tasks do not begin with a dot."""
        return f"{self.worktrees}/{job}-{uid[:8]}/.{task}.json"

    def slot_file(self, slot: Slot) -> str:
        """The file whose kernel lock is the slot (local backend)."""
        return f"{self.jobs}/{slot.job}/" + ("runner.pid" if slot.number == 0 else f"runner-{slot.number}.pid")

    def slot_of(self, path: str) -> Slot | None:
        """Return the slot whose file `path` is (a trailing ` (deleted)`, as /proc shows it, is allowed), or None."""
        path = path.removesuffix(" (deleted)")
        if not path.startswith(self.jobs + "/"):
            return None
        job, _, name = path[len(self.jobs) + 1 :].partition("/")
        if name == "runner.pid":
            return Slot(job, 0)
        found = _SLOT_FILE.fullmatch(name)
        return Slot(job, int(found[1])) if found is not None else None

    def job_of_workspace(self, path: str) -> str | None:
        """Return the job whose workspace `path` is, or None."""
        head, _, tail = path.removeprefix(self.jobs + "/").partition("/")
        return head if path.startswith(self.jobs + "/") and tail == "workspace" else None
