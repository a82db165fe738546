"""Tokens of single runs: what they open, when they end, and the key that makes them."""

from __future__ import annotations

import base64
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from air_executor.errors import CorruptFileError
from air_executor.store.layout import Layout
from air_executor.store.run_tokens import LIFETIME, PREFIX, RunAddress, RunTokens

NOW = 1_800_000_000.0
ADDRESS = RunAddress("job", 3, "a", "0badcafe-3")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Return a state directory."""
    (tmp_path / "state").mkdir()
    return Layout(tmp_path / "state")


def test_a_token_names_its_run(layout: Layout) -> None:
    """Any manager of the state directory knows it, and it holds no secret but its signature."""
    token = RunTokens(layout).make(ADDRESS, NOW)
    assert token.startswith(PREFIX)
    assert RunTokens(layout).read(token, NOW) == (ADDRESS, None)


def test_a_token_ends(layout: Layout) -> None:
    """In the second half of its life whoever uses it gets a new one; afterwards it is worth nothing."""
    tokens = RunTokens(layout)
    token = tokens.make(ADDRESS, NOW)
    assert tokens.read(token, NOW + LIFETIME / 2) == (ADDRESS, None)
    found = tokens.read(token, NOW + LIFETIME / 2 + 1)
    assert found is not None
    assert found[0] == ADDRESS
    assert found[1] is not None
    assert tokens.read(token, NOW + LIFETIME) is None
    assert tokens.read(found[1], NOW + LIFETIME) == (ADDRESS, None)


def forgeries(token: str) -> list[str]:
    """Return what somebody who has a token could make of it."""
    raw = base64.urlsafe_b64decode(token.removeprefix(PREFIX) + "==")
    signed, payload = raw[:32], json.loads(raw[32:])
    others: list[object] = [["other", *payload[1:]], [*payload[:4], payload[4] + 1], [], {}, None]
    made = [PREFIX + base64.urlsafe_b64encode(signed + json.dumps(one).encode()).decode().rstrip("=") for one in others]
    return [
        *made,
        *(token[:length] for length in range(0, len(token), 7)),
        token + "=",
        token + "A",
        token.upper(),
        token.removeprefix(PREFIX),
        f" {token}",
        PREFIX,
        PREFIX + "A" * 2000,
        PREFIX + "\u00e9\udc80",
        PREFIX + "A" * 43,
    ]


def test_forged_tokens(layout: Layout) -> None:
    """Not one of them is taken, and none does any harm."""
    tokens = RunTokens(layout)
    token = tokens.make(ADDRESS, NOW)
    assert [one for one in forgeries(token) if one != token and tokens.read(one, NOW) is not None] == []


def test_a_token_of_another_state_directory(layout: Layout, tmp_path: Path) -> None:
    """Each has a key of its own, which only its owner reads; with a new key all old tokens end."""
    (tmp_path / "other").mkdir()
    other = RunTokens(Layout(tmp_path / "other"))
    token = RunTokens(layout).make(ADDRESS, NOW)
    assert other.read(token, NOW) is None
    assert stat.S_IMODE(os.stat(layout.run_key).st_mode) == 0o600
    os.unlink(layout.run_key)
    assert RunTokens(layout).read(token, NOW) is None


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_torn_key(layout: Layout, content: bytes) -> None:
    """It is not used, not replaced, and the message says what to do."""
    Path(layout.run_key).write_bytes(content)
    for ask in (lambda: RunTokens(layout).make(ADDRESS, NOW), lambda: RunTokens(layout).read(f"{PREFIX}AA", NOW)):
        with pytest.raises(CorruptFileError, match="remove it"):
            ask()
    assert Path(layout.run_key).read_bytes() == content


def test_managers_that_create_the_key_at_once(layout: Layout) -> None:
    """All have the same one, and nothing that they staged stays."""
    with ThreadPoolExecutor(16) as pool:
        keys = list(pool.map(lambda _: RunTokens(layout).key(), range(64)))
    assert len(set(keys)) == 1
    assert Path(layout.run_key).read_bytes() == keys[0]
    assert os.listdir(layout.tmp) == []
