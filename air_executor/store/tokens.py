"""The tokens of a state directory, in a file: hashed, named, expiring.

The command line adds and removes tokens; the server asks whose a token is, and reads the file again when it has
changed, so that tokens are rotated without a restart. A file in a mounted Secret works the same, without changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import threading
from collections.abc import Iterator

from filelock import FileLock, Timeout

from air_executor.errors import AlreadyExistsError, BadInputError, CorruptFileError, NotFoundError, StoreError
from air_executor.model import parsing, strict_json
from air_executor.model.callers import ADMIN, Caller, Role, TokenRecord, TokensFile
from air_executor.model.problems import InvalidError, did_you_mean, lines
from air_executor.store import files, permissions

PREFIX = "air_"
"""How tokens begin, so that scanners for secrets find them."""
FIRST = "first"
"""Name of the token that a manager creates at its first start."""
MAX_FILE = 8 << 20
MIN_TOKEN = 20
"""Of a token that somebody chose: it has to be random, for its hash is a fast one."""
MAX_TOKEN = 256
LOCKED_WITHIN = 5.0
"""Seconds to wait for another command that changes the tokens."""


def hash_of(token: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return found.st_ino, found.st_size, found.st_mtime_ns


def first_token(path: str) -> str | None:
    """Return the token that a manager created at its first start; None: it created none.

    Raises:
        StoreError: it cannot be read.
    """
    found = files.read(path, MAX_TOKEN + 1)
    text = "" if found is None else found[0].decode("ascii", "replace").strip()
    return text if text.startswith(PREFIX) else None


def _new_token() -> str:
    return PREFIX + secrets.token_urlsafe(32)


class Tokens:
    """The tokens in one file."""

    def __init__(self, path: str, admin: str | None = None) -> None:
        """`path` is the file of tokens, `admin` one with nothing but an admin's token, which nobody changes here."""
        self.path = path
        self._admin = admin
        self._lock = threading.Lock()
        self._stamp: object = None
        self._known: dict[str, TokenRecord] = {}

    # Asking

    def caller(self, token: str, now: float) -> Caller | None:
        """Return whose token it is; None: nobody's, or expired. `now` in Unix seconds.

        Raises:
            StoreError: the file cannot be read.
        """
        if not MIN_TOKEN <= len(token) <= MAX_TOKEN:
            return None
        found = self._by_hash().get(hash_of(token))
        if found is None or (found.expires_at is not None and found.expires_at <= now):
            return None
        return Caller(found.name, found.role)

    def exist(self) -> bool:
        """Tell whether there are tokens, expired ones included.

        Raises:
            StoreError: the file cannot be read.
        """
        return bool(self._by_hash())

    def _by_hash(self) -> dict[str, TokenRecord]:
        with self._lock:
            stamp = _stamp(self.path), None if self._admin is None else _stamp(self._admin)
            if stamp != self._stamp:
                self._known = {one.sha256: one for one in (*self.load(), *self._admins())}
                self._stamp = stamp
            return self._known

    def _admins(self) -> list[TokenRecord]:
        """Return the token in the admin's own file; none if there is no file, or it is not filled yet."""
        found = None if self._admin is None else files.read(os.path.realpath(self._admin), MAX_TOKEN + 2)
        token = "" if found is None else found[0].decode("ascii", "replace").strip()
        if not token:
            return []
        if not MIN_TOKEN <= len(token) <= MAX_TOKEN:
            msg = f"{self._admin}: a token has {MIN_TOKEN} to {MAX_TOKEN} characters"
            raise CorruptFileError(msg)
        return [TokenRecord(name=ADMIN, role=ADMIN, sha256=hash_of(token), created_at=0.0)]

    def load(self) -> list[TokenRecord]:
        """Return all tokens, expired ones included; none if there is no file.

        Raises:
            CorruptFileError: it cannot be read.
        """
        # A Secret is mounted as a link to a folder that is exchanged as a whole.
        found = files.read(os.path.realpath(self.path), MAX_FILE)
        if found is None:
            return []
        try:
            return parsing.read_stored(TokensFile, strict_json.loads(found[0])).tokens
        except (BadInputError, InvalidError) as error:
            what = "; ".join(lines(error.problems)) if isinstance(error, InvalidError) else str(error)
            msg = f"{self.path}: {what}"
            raise CorruptFileError(msg) from None

    # Changing

    def create(self, name: str, role: Role, *, now: float, expires_at: float | None) -> str:
        """Add a token and return it; it is shown this once, for only its hash is stored. Times in Unix seconds.

        Raises:
            AlreadyExistsError: there is a token of this name.
            StoreError: the volume refused; there is no new token.
        """
        token = _new_token()
        made = TokenRecord(name=name, role=role, sha256=hash_of(token), created_at=now, expires_at=expires_at)
        with self._locked():
            known = self.load()
            if any(one.name == name for one in known):
                msg = f"token {name}: exists already; revoke it first: `air-executor token revoke {name}`"
                raise AlreadyExistsError(msg)
            self._save([*known, made])
        return token

    def create_first(self, shown: str, now: float) -> bool:
        """Create an admin's token where there is no file of tokens, and keep it for its owner's eyes in `shown`.

        Return whether there was none. It goes to `shown` first: a crash between the two repeats it with the same one.

        Raises:
            StoreError: the volume refused.
        """
        with self._locked():
            if os.path.lexists(self.path):
                return False
            token = first_token(shown)
            if token is None:
                token = _new_token()
                _write_private(shown, f"{token}\n")
            self._save([TokenRecord(name=FIRST, role=ADMIN, sha256=hash_of(token), created_at=now)])
        return True

    def revoke(self, name: str) -> None:
        """Remove a token: a running server refuses it from the next request on.

        Raises:
            NotFoundError: there is none of this name.
            StoreError: the volume refused; the token is valid.
        """
        with self._locked():
            known = self.load()
            left = [one for one in known if one.name != name]
            if len(left) == len(known):
                msg = f"no token {name}{did_you_mean(name, [one.name for one in known])}"
                raise NotFoundError(msg)
            self._save(left)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        files.make_dir(os.path.dirname(self.path))
        try:
            with FileLock(f"{self.path}.lock", timeout=LOCKED_WITHIN):
                yield
        except Timeout as error:
            msg = f"{self.path}: another command is changing the tokens; try again"
            raise StoreError(msg) from error
        except OSError as error:
            files.fail("lock", self.path, error)

    def _save(self, tokens: list[TokenRecord]) -> None:
        text = json.dumps({"format": 1, **parsing.dump(TokensFile(tokens=tokens))}, indent=2) + "\n"
        _write_private(self.path, text)


def _write_private(path: str, text: str) -> None:
    folder = os.path.dirname(path)
    temporary = f"{path}.{files.random_hex(6)}"
    files.write_new(temporary, text.encode(), sync=True, mode=0o600)
    files.move(temporary, path)
    files.fsync_dir(folder)
    permissions.hand_over(path, folder)
