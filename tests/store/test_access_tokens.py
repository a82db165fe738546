"""The tokens of people and programs: who has which role until when, and a file that shows no token."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from filelock import FileLock

from air_executor.errors import AlreadyExistsError, CorruptFileError, NotFoundError, StoreError
from air_executor.model.callers import Caller
from air_executor.store import tokens as store
from air_executor.store.tokens import FIRST, MAX_TOKEN, MIN_TOKEN, PREFIX, Tokens, first_token

NOW = 1_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the tokens are to be; the folder is not there yet."""
    return str(tmp_path / "private" / "tokens.json")


def test_a_token_has_a_role_until_it_expires(path: str) -> None:
    """To the moment; another one's text is nobody's."""
    tokens = Tokens(path)
    ours = tokens.create("ci", "operator", now=NOW, expires_at=NOW + 60)
    always = tokens.create("boss", "admin", now=NOW, expires_at=None)
    assert tokens.caller(ours, NOW + 59.9) == Caller("ci", "operator")
    assert tokens.caller(ours, NOW + 60) is None
    assert tokens.caller(always, NOW * 1000) == Caller("boss", "admin")
    assert tokens.caller(always[:-1] + ("a" if always[-1] != "a" else "b"), NOW) is None
    assert [(one.name, one.created_at, one.expires_at) for one in tokens.load()] == [
        ("ci", NOW, NOW + 60),
        ("boss", NOW, None),
    ]


def test_the_file_shows_no_token(path: str) -> None:
    """It is its owner's alone, and has only hashes; tokens are long, random, and found by scanners for secrets."""
    tokens = Tokens(path)
    made = [tokens.create(name, "viewer", now=NOW, expires_at=None) for name in ("a", "b")]
    text = Path(path).read_text(encoding="utf-8")
    assert [one for one in made if one in text] == []
    assert json.loads(text)["format"] == 1
    assert text.endswith("}\n")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert len({*made}) == 2
    assert {(one.startswith(PREFIX), len(one) > 40) for one in made} == {(True, True)}
    assert [name for name in os.listdir(os.path.dirname(path)) if not name.startswith("tokens.json")] == []
    assert len(os.listdir(os.path.dirname(path))) <= 2, "the file and its lock"


def test_a_change_is_seen_at_once(path: str) -> None:
    """By a server that has looked before: new tokens, revoked ones, and a file that was exchanged as a Secret is."""
    server, command = Tokens(path), Tokens(path)
    assert not server.exist()
    one = command.create("one", "viewer", now=NOW, expires_at=NOW)
    assert server.exist(), "an expired one is one, too"
    two = command.create("two", "viewer", now=NOW, expires_at=None)
    assert server.caller(two, NOW) == Caller("two", "viewer")
    command.revoke("two")
    assert server.caller(two, NOW) is None
    assert [known.name for known in server.load()] == ["one"]
    os.rename(path, f"{path}.old")
    assert server.caller(one, NOW - 1) is None
    os.symlink(f"{path}.old", path)
    assert server.caller(one, NOW - 1) == Caller("one", "viewer")


def test_names_are_unique(path: str) -> None:
    """A second one of a name is refused, and one that is not there cannot be revoked."""
    tokens = Tokens(path)
    kept = tokens.create("nightly", "operator", now=NOW, expires_at=None)
    with pytest.raises(AlreadyExistsError, match="air-executor token revoke nightly"):
        tokens.create("nightly", "admin", now=NOW, expires_at=None)
    with pytest.raises(NotFoundError, match=r"no token nightli.*nightly"):
        tokens.revoke("nightli")
    assert tokens.caller(kept, NOW) == Caller("nightly", "operator")


@pytest.mark.parametrize(("length", "is_known"), [(MIN_TOKEN - 1, None), (MIN_TOKEN, True), (MAX_TOKEN, True)])
def test_the_admins_own_file(path: str, tmp_path: Path, length: int, is_known: bool | None) -> None:  # noqa: FBT001
    """It holds one token that somebody chose, which has to be long; empty or missing, there is none yet."""
    own = tmp_path / "admin"
    tokens = Tokens(path, str(own))
    assert not tokens.exist()
    own.write_text("\n")
    assert not tokens.exist()
    own.write_text("x" * length + "\n")
    if is_known is None:
        with pytest.raises(CorruptFileError, match=f"{own}: a token has 20 to 256 characters"):
            tokens.exist()
        return
    assert tokens.caller("x" * length, NOW) == Caller("admin", "admin")
    assert tokens.load() == []


@pytest.mark.parametrize("length", [0, MIN_TOKEN - 1, MAX_TOKEN + 1, 1_000_000])
def test_absurd_tokens_are_nobodys(path: str, length: int) -> None:
    """They are not even hashed: the file may be unreadable."""
    os.makedirs(path)
    assert Tokens(path).caller("x" * length, NOW) is None


def test_texts_that_are_no_ascii(path: str, tmp_path: Path) -> None:
    """What a client or a file has instead of a token is nobody's, and raises nothing else."""
    own, shown = tmp_path / "admin", tmp_path / "shown"
    own.write_bytes(b"\xff" * MIN_TOKEN)
    shown.write_bytes(PREFIX.encode() + b"\xff")
    tokens = Tokens(path, str(own))
    assert tokens.caller("\udcff" * MIN_TOKEN, NOW) is None
    assert first_token(str(shown)) == f"{PREFIX}\ufffd"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for others")
def test_the_file_belongs_to_the_owner_of_its_folder(path: str) -> None:
    """Also where root's command has written it: the server must be able to read it."""
    os.makedirs(os.path.dirname(path))
    os.chown(os.path.dirname(path), 4321, 4321)
    Tokens(path).create("a", "viewer", now=NOW, expires_at=None)
    assert (os.stat(path).st_uid, stat.S_IMODE(os.stat(path).st_mode)) == (4321, 0o600)


@pytest.mark.parametrize(
    ("text", "why"),
    [("{", "is not JSON"), ('{"format": 1, "tokens": 3}', "tokens: must be a list"), ("[]", "")],
    ids=["half", "wrong", "list"],
)
def test_a_broken_file_names_itself(path: str, text: str, why: str) -> None:
    """Nobody gets in, nobody is told that there are no tokens, and no command writes over it."""
    os.makedirs(os.path.dirname(path))
    Path(path).write_text(text)
    tokens = Tokens(path)
    for call in (tokens.exist, lambda: tokens.caller("x" * 30, NOW), lambda: tokens.revoke("a")):
        with pytest.raises(CorruptFileError, match=f"^{path}: .*{why}"):
            call()
    with pytest.raises(CorruptFileError):
        tokens.create("a", "viewer", now=NOW, expires_at=None)
    assert Path(path).read_text() == text


def test_the_first_token(path: str, tmp_path: Path) -> None:
    """A manager creates one where there is no file, and keeps it where its owner can read it, once."""
    shown = str(tmp_path / "shown")
    assert first_token(shown) is None
    tokens = Tokens(path)
    assert tokens.create_first(shown, NOW)
    first = first_token(shown)
    assert first is not None
    assert tokens.caller(first, NOW) == Caller(FIRST, "admin")
    assert stat.S_IMODE(os.stat(shown).st_mode) == 0o600
    assert not tokens.create_first(shown, NOW)
    tokens.revoke(FIRST)
    assert not tokens.create_first(shown, NOW), "whoever revokes it wants none"
    os.unlink(path)
    assert tokens.create_first(shown, NOW), "as after a death between the two files"
    assert first_token(shown) == first
    assert Tokens(path).caller(first, NOW) == Caller(FIRST, "admin")


def test_another_command_at_the_same_time(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its change is waited for; if that takes long, nothing was changed."""
    monkeypatch.setattr(store, "LOCKED_WITHIN", 0.05)
    tokens = Tokens(path)
    tokens.create("a", "viewer", now=NOW, expires_at=None)
    with FileLock(f"{path}.lock"), pytest.raises(StoreError, match=f"{path}: another command"):
        tokens.create("b", "viewer", now=NOW, expires_at=None)
    assert [one.name for one in tokens.load()] == ["a"]
    tokens.create("b", "viewer", now=NOW, expires_at=None)
