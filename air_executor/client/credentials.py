"""Tokens for servers: from `AIR_TOKEN`, or stored by `air-executor login`.

They are stored in the keyring, where the library `keyring` is installed and has one, else in a file that only its owner
can read. Never in an address, an argument or an output.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from air_executor.client.server_address import read_address
from air_executor.errors import BadInputError, StoreError

VARIABLE = "AIR_TOKEN"
SERVICE = "air-executor"
FILE = "servers.json"
MAX_FILE = 1 << 20
_TOKEN = re.compile(r"[!-~]{1,4096}")


def check_token(token: str, source: str) -> str:
    """Return a token without white space around it.

    Raises:
        BadInputError: it cannot be one; it is not repeated.
    """
    found = token.strip()
    if not _TOKEN.fullmatch(found):
        msg = f"{source}: is no token: it has white space or characters other than ASCII, or is empty"
        raise BadInputError(msg)
    return found


def find_token(server: str, env: Mapping[str, str]) -> str | None:
    """Return the token for a server; None: there is none.

    Raises:
        BadInputError: the address is wrong, or `AIR_TOKEN` is no token.
        StoreError: the file of tokens cannot be read.
    """
    if given := env.get(VARIABLE):
        return check_token(given, VARIABLE)
    url = read_address(server).url
    found = _load(env).get(url)
    if isinstance(found, dict) and found.get("keyring"):
        ring = _keyring()
        try:
            found = None if ring is None else ring.get_password(SERVICE, url)
        except Exception as error:
            msg = f"the keyring with the token for {url} cannot be read: {error}; unlock it, or set {VARIABLE}"
            raise StoreError(msg) from error
        return None if found is None else check_token(found, f"the keyring's token for {url}")
    token = found.get("token") if isinstance(found, dict) else None
    return check_token(token, f"{path_of(env)}: {url}") if isinstance(token, str) else None


def save_token(server: str, token: str, env: Mapping[str, str]) -> str:
    """Store the token for a server, in place of an older one, and return where it is stored, for people.

    Raises:
        StoreError: the file refused.
    """
    url = read_address(server).url
    stored, where = _load(env), path_of(env)
    ring = _keyring()
    if ring is not None:
        with contextlib.suppress(Exception):  # a keyring that is locked, or has no place to store: the file has
            ring.set_password(SERVICE, url, token)
            _save({**stored, url: {"keyring": True}}, env)
            return "the keyring"
    _save({**stored, url: {"token": token}}, env)
    return where


def forget_token(server: str, env: Mapping[str, str]) -> bool:
    """Remove the stored token for a server; return whether there was one."""
    url = read_address(server).url
    stored = _load(env)
    found = stored.pop(url, None)
    if found is None:
        return False
    ring = _keyring()
    if ring is not None and isinstance(found, dict) and found.get("keyring"):
        with contextlib.suppress(Exception):  # it is gone already
            ring.delete_password(SERVICE, url)
    _save(stored, env)
    return True


def path_of(env: Mapping[str, str]) -> str:
    """Return the path of the file of tokens."""
    base = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME") or os.path.expanduser("~"), ".config")
    return os.path.join(base, SERVICE, FILE)


def _load(env: Mapping[str, str]) -> dict[str, Any]:
    path = path_of(env)
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(MAX_FILE))
        servers = found["servers"]
    except FileNotFoundError:
        return {}
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise StoreError(msg) from None
    except (ValueError, KeyError, TypeError):
        servers = None
    if not isinstance(servers, dict):
        msg = f"{path}: is no file of tokens; remove it, and log in again"
        raise StoreError(msg)
    return servers


def _save(servers: Mapping[str, Any], env: Mapping[str, str]) -> None:
    path = path_of(env)
    staged = f"{path}.{os.getpid()}"
    text = json.dumps({"format": 1, "servers": dict(servers)}, indent=2) + "\n"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged)
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(staged, path)
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror}"
        raise StoreError(msg) from None


def _keyring() -> Any:  # noqa: ANN401 - a library without types, which need not be there
    """Return the library of the keyring, if it is installed and has a keyring."""
    try:
        import keyring  # noqa: PLC0415 - optional
        from keyring.backends import fail  # noqa: PLC0415

        return None if isinstance(keyring.get_keyring(), fail.Keyring) else keyring
    except Exception:  # noqa: BLE001 - whatever it is, there is the file
        return None
