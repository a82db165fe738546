"""The values of secrets: a file of that name in the secrets directory, or else a variable of the environment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from air_executor.errors import CorruptFileError, NotFoundError
from air_executor.store import files

MAX_SECRET = 1024 * 1024
PREFIX = "AIR_SECRET_"
RESERVED = "AIR_NOTIFY_"
"""How the names of the manager's own secrets begin: the URLs of targets."""


def secret_values(names: Iterable[str], folder: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the values of some secrets, by name.

    Raises:
        NotFoundError: one does not exist.
        CorruptFileError: the file of one cannot be read.
        StoreError: the volume refused.
    """
    found = {}
    for name in names:
        if name.startswith(RESERVED):
            msg = f"secret {name}: is the URL of a target of notifications, which no task gets"
            raise NotFoundError(msg)
        value = secret_file(name, folder)
        if value is None:
            value = environ.get(f"{PREFIX}{name}")
        if value is None:
            where = f"no file {name} in {folder}, and" if folder else "AIR_SECRETS_DIR is not set, and"
            msg = f"secret {name}: {where} no {PREFIX}{name} in the manager's environment"
            raise NotFoundError(msg)
        found[name] = value
    return found


def secret_file(name: str, folder: str | None) -> str | None:
    """Return what the file of a secret holds; None: there is none. Raises as `secret_values`."""
    if folder is None:
        return None
    try:
        path = os.path.realpath(f"{folder}/{name}")  # mounted secrets are symlinks
        found = files.read(path, MAX_SECRET)
    except CorruptFileError as error:
        msg = f"secret {name}: {error}"
        raise CorruptFileError(msg) from error
    return None if found is None else found[0].decode("utf-8", "surrogateescape").removesuffix("\n")
