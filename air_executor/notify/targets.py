"""Targets of notifications: names whose URLs are secrets, so that no job, state or log ever holds one."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from air_executor.errors import AirExecutorError, BadInputError, NotFoundError
from air_executor.model.checks import TARGET_PATTERN, TARGET_RULE
from air_executor.model.quote import quoted
from air_executor.store.secret_files import RESERVED, secret_file

WEBHOOKS = ("http", "https")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


class Targets:
    """The targets that this process knows."""

    def __init__(self, secrets_dir: str | None, environ: Mapping[str, str]) -> None:
        self._secrets_dir = secrets_dir
        self._environ = environ

    def url(self, name: str) -> SecretStr:
        """Return where a target is.

        Raises:
            NotFoundError: it is unknown here.
            StoreError: its file cannot be read.
        """
        if not re.fullmatch(TARGET_PATTERN, name):  # it becomes part of a path
            msg = f"target {quoted(name)}: is no name of a target; use {TARGET_RULE}"
            raise NotFoundError(msg)
        variable = f"{RESERVED}{name.upper()}"
        found = secret_file(variable, self._secrets_dir) or self._environ.get(variable)
        if not found or not found.strip():
            where = f" in {self._secrets_dir}, nor" if self._secrets_dir else ""
            msg = f"target {name} is unknown: no file {variable}{where} in the manager's environment"
            raise NotFoundError(msg.replace("no file", "neither a file") if where else msg.replace("file ", ""))
        return SecretStr(found.strip())

    def names(self) -> list[str]:
        """Return the names of all targets, sorted."""
        listed = (
            [] if self._secrets_dir is None or not os.path.isdir(self._secrets_dir) else os.listdir(self._secrets_dir)
        )
        names = {found.removeprefix(RESERVED) for found in (*listed, *self._environ) if found.startswith(RESERVED)}
        return sorted(name.lower() for name in names if re.fullmatch(TARGET_PATTERN, name.lower()))

    def problem(self, name: str) -> str | None:
        """Return what is wrong with a target, without its URL; None: nothing that can be seen from here."""
        try:
            check_url(self.url(name))
        except AirExecutorError as error:
            return str(error)
        return None


def check_url(url: SecretStr) -> SplitResult:
    """Return the parts of a target's URL.

    Raises:
        BadInputError: it cannot be one; the message does not show it.
    """
    try:
        parts = urlsplit(url.get_secret_value())
        _ = parts.port
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    scheme = parts.scheme
    if not _SCHEME.fullmatch(scheme):
        msg = "is no URL; use https://… for a webhook, or a URL of Apprise like mailtos://… or slack://…"
        raise BadInputError(msg)
    if scheme in WEBHOOKS:
        if not parts.hostname or re.search(r"[\x00-\x20\x7f]", url.get_secret_value()):
            msg = f"is no {scheme} URL with a host"
            raise BadInputError(msg)
        return parts
    if importlib.util.find_spec("apprise") is None:
        msg = f"{scheme}:// needs Apprise: pip install 'air-executor[notify]'"
        raise BadInputError(msg)
    return parts
