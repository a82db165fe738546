"""Tokens in a keyring, where there is one: a stand-in for the library, which needs a desktop to have a keyring."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from air_executor.client.credentials import find_token, forget_token, path_of, save_token
from air_executor.errors import StoreError

SERVER = "https://air.example.com"
TOKEN = "air_of-this-test"  # noqa: S105


class Keyring(ModuleType):
    """The library: passwords by service and user; `locked`, it refuses everything."""

    def __init__(self) -> None:
        super().__init__("keyring")
        self.passwords: dict[tuple[str, str], str] = {}
        self.locked = False
        self.kind: object = object()

    def get_keyring(self) -> object:
        """Return the backend in use."""
        return self.kind

    def set_password(self, service: str, user: str, password: str) -> None:
        """Store one."""
        self._check()
        self.passwords[service, user] = password

    def get_password(self, service: str, user: str) -> str | None:
        """Return one."""
        self._check()
        return self.passwords.get((service, user))

    def delete_password(self, service: str, user: str) -> None:
        """Remove one."""
        self._check()
        del self.passwords[service, user]

    def _check(self) -> None:
        if self.locked:
            msg = "the collection is locked"
            raise RuntimeError(msg)


class Fail:
    """What the library has where there is no keyring."""


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Keyring:
    """Return a keyring in place of the library's."""
    made, backends, fail = Keyring(), ModuleType("keyring.backends"), ModuleType("keyring.backends.fail")
    fail.Keyring = Fail  # type: ignore[attr-defined]
    backends.fail = fail  # type: ignore[attr-defined]
    for module in (made, backends, fail):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a user without a token."""
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def test_the_keyring_has_it_and_the_file_has_not(ring: Keyring, env: dict[str, str]) -> None:
    """Stored, found, exchanged and removed."""
    assert save_token(SERVER, TOKEN, env) == "the keyring"
    assert TOKEN not in Path(path_of(env)).read_text()
    assert find_token(SERVER, env) == TOKEN
    save_token(SERVER, f"{TOKEN}-2", env)
    assert find_token(SERVER, env) == f"{TOKEN}-2"
    assert forget_token(SERVER, env)
    assert (ring.passwords, find_token(SERVER, env)) == ({}, None)


def test_without_a_keyring_there_is_the_file(ring: Keyring, env: dict[str, str]) -> None:
    """The library is installed and has no keyring, or it is locked: the file, for its owner alone."""
    ring.kind = Fail()
    assert save_token(SERVER, TOKEN, env) == path_of(env)
    ring.kind, ring.locked = object(), True
    assert save_token(SERVER, TOKEN, env) == path_of(env)
    assert Path(path_of(env)).stat().st_mode & 0o777 == 0o600
    assert find_token(SERVER, env) == TOKEN


def test_a_keyring_that_is_locked_later_says_so(ring: Keyring, env: dict[str, str]) -> None:
    """With what to do; AIR_TOKEN needs no keyring."""
    save_token(SERVER, TOKEN, env)
    ring.locked = True
    with pytest.raises(StoreError, match="cannot be read: the collection is locked; unlock it, or set AIR_TOKEN"):
        find_token(SERVER, env)
    assert find_token(SERVER, {**env, "AIR_TOKEN": "other"}) == "other"
