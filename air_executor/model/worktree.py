"""A git checkout of its own for a task: what people write of it, and what is noted of one that was made.

`types` is about values that all records share; what git takes as a name is known here alone.
"""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import MaxLen

from air_executor.errors import BadInputError
from air_executor.model import types as t
from air_executor.model.checks import clean
from air_executor.model.quote import quoted
from air_executor.model.record import Record
from air_executor.model.refusal import RefusalError
from air_executor.model.types import About, Accepts

KEEP = ("always", "on_failure", "never")
BRANCH = "air/{{ job.id }}/{{ task.id }}"
_LONGEST = 200
"""Characters: a branch is a file, and its lock has a longer name."""
_PLACEHOLDER = re.compile(r"\{\{\s*(job|task)\.id\s*\}\}")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.$|\.lock(?=/|$)|/$|^[./-]|^@$|^HEAD$")
"""What git refuses in the name of a branch (`git check-ref-format --branch`)."""
_NO_COMMIT = re.compile(r"[\x00-\x1f\x7f]|^-|^$")
_BRANCH_RULE = f"a name that git takes for a branch, of at most {_LONGEST} characters"
_COMMIT_RULE = f"a branch, a tag or a commit, of at most {_LONGEST} characters"


def is_branch(name: str) -> bool:
    """Tell whether git takes this name for a branch."""
    return 0 < len(name) <= _LONGEST and len(name.encode()) <= _LONGEST and not _FORBIDDEN.search(name)


def fill_in(text: str, job: str, task: str) -> str:
    """Return a name with `{{ job.id }}` and `{{ task.id }}` replaced."""
    return _PLACEHOLDER.sub(lambda found: job if found[1] == "job" else task, text)


def _check_branch(value: object) -> str:
    if isinstance(value, str) and clean(value) and is_branch(fill_in(value, "x", "x")):
        return value
    msg = f"must be {_BRANCH_RULE}, got {quoted(value)}"
    raise RefusalError(msg)


def _check_commit(value: object) -> str:
    if isinstance(value, str) and clean(value) and len(value) <= _LONGEST and not _NO_COMMIT.search(value):
        return value
    msg = f"must be {_COMMIT_RULE}, got {quoted(value)}"
    raise RefusalError(msg)


_NAME: t.Json = {"type": "string", "minLength": 1, "maxLength": _LONGEST}
Branch = Annotated[str, MaxLen(_LONGEST), Accepts(_BRANCH_RULE, before=_check_branch, json=_NAME)]
Commit = Annotated[str, MaxLen(_LONGEST), Accepts(_COMMIT_RULE, before=_check_commit, json=_NAME)]
Keep = Annotated[Literal["always", "on_failure", "never"], *t.one_of(*KEEP)]


@dataclass(slots=True, kw_only=True)
class Worktree(Record):
    """A git worktree for a task."""

    base: Annotated[Commit, About("Branch, tag or commit at which its branch begins.")] = "HEAD"
    branch: Annotated[Branch, About("Its branch; `{{ job.id }}` and `{{ task.id }}` are replaced.")] = BRANCH
    keep: Annotated[
        Keep, About("Whether its folder stays after the task's end: `always`, `on_failure` or `never`.")
    ] = "on_failure"

    def branch_of(self, job: str, task: str) -> str:
        """Return the name of the branch of a task.

        Raises:
            BadInputError: with these ids it is none.
        """
        name = fill_in(self.branch, job, task)
        if not is_branch(name):
            msg = f"worktree.branch: git takes no branch named {quoted(name)}; give it another one"
            raise BadInputError(msg)
        return name


@dataclass(frozen=True, slots=True, kw_only=True)
class WorktreeNote(Record):
    """What is noted of a worktree in the file beside it: written before it is made, and whenever it changes."""

    format: Literal[1] = 1
    job: t.Id
    uid: t.Uid
    task: t.Id
    repository: t.Text
    """Path of the repository's own folder, `.git`."""
    branch: t.Word
    commit: t.Word
    """At which its branch began."""
    prefix: t.Text = ""
    """Path of the project folder in the repository; empty: its top."""
    admin: t.Word | None = None
    """Name of the folder that git has for it, in `worktrees` of the repository."""
    ready: bool = False
    """It is complete: false while it is made, and after it was removed."""
    kept: t.Text | None = None
    """Why its folder stays although its task has ended."""
