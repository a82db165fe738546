"""Paths of the project folder, its `air-executor.toml` and its state directory.

For all commands, before anything slow is imported: standard library alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from air_executor.errors import BadInputError, NotFoundError
from air_executor.model.quote import quoted

FILE = "air-executor.toml"
DIRECTORY = ".air-executor"
DEFAULT = "default"
"""Source of a value that is not set."""


def find_project(cwd: str) -> str:
    """Return the nearest folder, from `cwd` upwards, that has an `air-executor.toml` or a state directory; else `cwd`.

    Above `cwd`, only entries that belong to this user or to root count: other users' jobs below a shared folder like
    /tmp must not run as this user.
    """
    here = folder = os.path.abspath(cwd)
    trusted = {os.geteuid(), 0}
    while True:
        for name in (FILE, DIRECTORY):
            try:
                owner = os.lstat(os.path.join(folder, name)).st_uid
            except OSError:
                continue
            if owner in trusted or folder == here:
                return folder
        above = os.path.dirname(folder)
        if above == folder:
            return here
        folder = above


def current_folder(cwd: str | None = None) -> str:
    """Return the absolute path of `cwd`, by default of the current folder, or its old path if that was deleted."""
    try:
        return os.path.abspath(cwd or os.getcwd())
    except FileNotFoundError:
        return os.path.abspath(os.environ.get("PWD") or "/")


def check_folder(here: str, state_dir: object) -> None:
    """Refuse a state directory that is a file, and to work in a folder that was deleted, unless its path is absolute.

    Raises:
        BadInputError: it is a file.
        NotFoundError: the folder was deleted, and the path starts there.
    """
    given = state_dir if isinstance(state_dir, (str, os.PathLike)) and "\0" not in str(state_dir) else ""
    absolute = os.path.isabs(given)
    if given and os.path.isfile(os.path.join(here, os.path.expanduser(given))):
        msg = f"{os.fspath(given)} is a file; a state directory is a folder, such as {DIRECTORY}"
        raise BadInputError(msg)
    if not absolute and not os.path.isdir(here):
        msg = f"the current folder {here} no longer exists; change to another one, or name one with --state-dir"
        raise NotFoundError(msg)


def read_file(path: str) -> dict[str, Any]:
    """Return the content of a settings file; empty if there is none.

    Raises:
        BadInputError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            import tomllib  # noqa: PLC0415 - most projects have no such file

            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise BadInputError(msg) from error
    except ValueError as error:  # not TOML, or not UTF-8
        msg = f"{path}: is not TOML: {error}"
        raise BadInputError(msg) from error


def locate_state_dir(
    flag: str | os.PathLike[str] | None, env: Mapping[str, str] | None = None, cwd: str | None = None
) -> tuple[str, str]:
    """Return the absolute path of the state directory, which need not exist, and its source.

    A relative path starts at the current folder; in `air-executor.toml`, at the file's folder.

    Raises:
        BadInputError: the file cannot be read, or the value is not a path.
        NotFoundError: the current folder, where the path starts, was deleted.
    """
    env = os.environ if env is None else env
    here = current_folder(cwd)
    variable = "AIR_STATE_DIR"
    given = flag if flag is not None else env.get(variable) or None
    check_folder(here, given)
    if given is not None:
        source = variable if flag is None else "--state-dir"
        return _absolute(given, here, source), source
    project = find_project(here)
    file = os.path.join(project, FILE)
    value = read_file(file).get("state_dir")
    if value is not None:
        return _absolute(value, project, f"{file}: state_dir"), file
    return os.path.join(project, DIRECTORY), DEFAULT


def parse_path(value: object) -> str:
    """Return a path as text; `~` is the home folder.

    Raises:
        BadInputError: it is not a path.
    """
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value) or "\0" in str(value):
        msg = f"must be a path, got {quoted(value)}"
        raise BadInputError(msg)
    return os.path.expanduser(str(value))


def anchored(value: object, base: str) -> object:
    """Return the absolute path for one relative to `base`; other values are returned as they are, to be refused."""
    try:
        return os.path.normpath(os.path.join(base, parse_path(value)))
    except BadInputError:
        return value


def _absolute(value: object, base: str, name: str) -> str:
    try:
        return os.path.normpath(os.path.join(base, parse_path(value)))
    except BadInputError as error:
        msg = f"{name}: {error}"
        raise BadInputError(msg) from None
