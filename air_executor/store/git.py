"""How git is called on a repository in which tasks may have written: nothing that it names is executed.

A repository can name programs: hooks, a file system monitor, filters of files, helpers for transports. They would run
as the manager, who may be somebody else than the tasks. So the repository's own settings are read only by commands that
look at no file and whose programs are switched off here; whatever looks at files runs with settings of ours, see
`private_folder`. Nor are those of the user read: a checkout is the same whoever makes it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence

from air_executor.errors import BadInputError, NotFoundError, StoreError
from air_executor.store import files

LONGEST = 600.0
"""Seconds that one command may take."""
MOST_TOLD = 300
"""Characters of what git says, in messages."""
MOST_READ = 64 * 1024
_SAFE = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.sshCommand=false",
    "core.askPass=false",
    "protocol.allow=never",
    "gc.auto=0",
    "maintenance.auto=false",
    "safe.directory=*",
    "advice.detachedHead=false",
)
_WORDS = [word for one in _SAFE for word in ("-c", one)]
_OBJECT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class GitError(StoreError):
    """Git has refused a command."""


def is_object(text: str) -> bool:
    """Tell whether text is the name of an object."""
    return _OBJECT.fullmatch(text) is not None


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which only `more` says where a repository is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "AIR_"))}
    return {
        **kept,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ATTR_NOSYSTEM": "1",
        **more,
    }


def git(words: Sequence[str], folder: str, **more: str) -> str:
    """Run git in a folder and return what it printed; `more` are variables.

    Raises:
        NotFoundError: there is no git.
        GitError: it refused, or took too long.
        StoreError: something has ended it; another try may succeed.
    """
    command = ["git", "--no-pager", "--literal-pathspecs", *_WORDS, *words]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=_environment(more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LONGEST,
            check=False,
        )
    except FileNotFoundError as error:
        what = "git is not installed where the manager runs" if os.path.isdir(folder) else f"{folder}: not found"
        raise NotFoundError(what) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"git {words[0]}: {error}"
        raise GitError(msg) from error
    if done.returncode < 0:
        msg = f"git {words[0]}: ended by signal {-done.returncode}"
        raise StoreError(msg)
    said = done.stderr[:MOST_READ].decode(errors="replace").strip()
    if done.returncode:
        lines = [line for line in said.splitlines() if line.startswith(("fatal:", "error:"))] or said.splitlines()
        why = "; ".join(line.partition(": ")[2] or line for line in lines)[:MOST_TOLD]
        msg = f"git {words[0]}: {why or f'exit code {done.returncode}'}"
        raise GitError(msg)
    if said and words[0] == "status":  # something of the folder was not seen
        msg = f"git status: {said.splitlines()[0][:MOST_TOLD]}"
        raise GitError(msg)
    return done.stdout.decode(errors="surrogateescape")


def private_folder(path: str, repository: str, head: str) -> dict[str, str]:
    """Make a folder with settings of ours for the objects of a repository, and return the variables that name it.

    No filter, no monitor, no helper is known there, so a checkout executes nothing, whatever attributes say.

    Raises:
        BadInputError: `head` is no commit.
        StoreError: the volume refused.
    """
    if not is_object(head):
        msg = f"{head[:MOST_TOLD]!r} is no commit"
        raise BadInputError(msg)
    for folder in ("objects", "refs", "info"):
        files.make_dir(f"{path}/{folder}")
    kind = "" if len(head) == 40 else "[extensions]\n\tobjectFormat = sha256\n"  # noqa: PLR2004 - SHA-1's digits
    settings = f"[core]\n\trepositoryformatversion = {int(bool(kind))}\n\tbare = false\n{kind}"
    files.write_new(f"{path}/config", settings.encode(), sync=False)
    files.write_new(f"{path}/HEAD", f"{head}\n".encode(), sync=False)
    ignored = files.read(f"{repository}/info/exclude", MOST_READ)
    files.write_new(f"{path}/info/exclude", b"" if ignored is None else ignored[0], sync=False)
    return {"GIT_DIR": path, "GIT_OBJECT_DIRECTORY": f"{repository}/objects"}
