"""Tokens of single runs: what runs far from the volume proves with one which run it is.

A token names its run and when it expires, and is signed with a key that only managers of the state directory can read.
So nothing of it is stored, and any later manager knows it too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
from typing import NamedTuple

from air_executor.errors import CorruptFileError
from air_executor.store import files
from air_executor.store.layout import Layout

PREFIX = "airrun_"
"""How these tokens begin, so that scanners for secrets find them."""
LIFETIME = 24 * 3600.0
"""Seconds; whoever uses one in its second half gets a new one."""
_KEY_BYTES = 32
_MAX_TOKEN = 1024


class RunAddress(NamedTuple):
    """One run."""

    job: str
    seq: int
    task: str
    run: str
    """Run id, `<uid>-<seq>`."""


class RunTokens:
    """Makes and reads the tokens of one state directory."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._key: bytes | None = None

    def key(self) -> bytes:
        """Return the key, which the first manager creates.

        Raises:
            CorruptFileError: it is no key.
            StoreError: the volume refused.
        """
        if self._key is None:
            found = files.read(self._layout.run_key, _MAX_TOKEN)
            if found is None:
                found = self._create()
            if len(found[0]) != _KEY_BYTES:
                msg = f"{self._layout.run_key}: is not a key; remove it, and the manager creates another one"
                raise CorruptFileError(msg)
            self._key = found[0]
        return self._key

    def _create(self) -> tuple[bytes, float]:
        key = os.urandom(_KEY_BYTES)
        path, staged = self._layout.run_key, f"{self._layout.tmp}/key-{files.random_hex(6)}"
        files.restore_dir(self._layout.tmp)
        files.write_new(staged, key, sync=True, mode=0o600)
        try:
            os.link(staged, path)  # whole, and only where there is none
        except FileExistsError:
            key = (files.read(path, _KEY_BYTES) or (key, 0.0))[0]
        except OSError as error:
            files.fail("create", path, error)
        finally:
            files.remove(staged)
        return key, 0.0

    def make(self, address: RunAddress, now: float) -> str:
        """Return a token of a run; `now` in Unix seconds.

        Raises:
            StoreError: the key cannot be read or created.
        """
        return self._sign(json.dumps([*address, round(now + LIFETIME)]).encode())

    def _sign(self, payload: bytes) -> str:
        signed = hmac.digest(self.key(), payload, hashlib.sha256)
        return PREFIX + base64.urlsafe_b64encode(signed + payload).decode().rstrip("=")

    def read(self, token: str, now: float) -> tuple[RunAddress, str | None] | None:
        """Return the run of a token, and a new token if this one has passed half of its time; None: it is not valid.

        Raises:
            StoreError: the key cannot be read or created.
        """
        text = token.removeprefix(PREFIX)
        if text == token or len(token) > _MAX_TOKEN:
            return None
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            return None
        payload = raw[hashlib.sha256().digest_size :]
        if not hmac.compare_digest(self._sign(payload).encode(), token.encode()):
            return None
        *parts, expires = json.loads(payload)
        if now >= expires:
            return None
        address = RunAddress(*parts)
        return address, self.make(address, now) if expires - now < LIFETIME / 2 else None

    EFFECTS = (_create,)
    """What changes the volume; see `files`."""
