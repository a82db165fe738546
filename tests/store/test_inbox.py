"""Requests: one file each, taken whole or refused with a reason; no file in there can harm the manager."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.errors import BadInputError, CorruptFileError
from air_executor.model.records import Request
from air_executor.store.inbox import Inbox
from air_executor.store.layout import Layout
from tests.store.strategies import JSON


@pytest.fixture
def inbox(layout: Layout) -> Inbox:
    """An empty inbox."""
    return Inbox(layout)


def test_posted_request_comes_back(inbox: Inbox) -> None:
    """What was posted is read as it was, oldest first."""
    first = inbox.post(Request("add", "j", tasks=[{"command": "ü \ud800"}]), 10.0)
    second = inbox.post(Request("retry", "j", "a"), 11.0)
    assert inbox.pending() == [first, second]
    assert re.fullmatch(r"0000000010000-[0-9a-f]{14}\.json", first), "older versions sort by it"
    assert inbox.read(first) == Request("add", "j", None, [{"command": "ü \ud800"}])
    assert inbox.read(second) == Request("retry", "j", "a", [])


def test_requests_of_one_moment_keep_their_order(inbox: Inbox) -> None:
    """A pause and a resume within a millisecond are not swapped."""
    posted = [inbox.post(Request(op, "j"), 10.0) for op in ("pause", "resume") * 20]
    assert inbox.pending() == posted


def test_a_wake_that_a_power_failure_took(inbox: Inbox) -> None:
    """It is not synced, so that only its name may be left: that says nothing, and is removed."""
    name = inbox.post(Request("wake", "j"), 10.0)
    assert inbox.read(name) == Request("wake", "j")
    os.truncate(f"{inbox.layout.inbox}/{name}", 0)
    assert inbox.read(name) is None
    assert inbox.pending() == []


def test_requests_are_synced_but_wakes(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked survives a power failure; what only wakes costs no sync."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    inbox.post(Request("wake", "j"), 10.0)
    assert synced == []
    inbox.post(Request("pause", "j"), 10.0)
    assert len(synced) == 2, "the file and its folder"


def test_answers(inbox: Inbox) -> None:
    """Applied means gone; refused means moved, with the reason beside it; both end the wait."""
    applied = inbox.post(Request("pause", "j"), 10.0)
    refused = inbox.post(Request("pause", "j"), 11.0)
    assert not inbox.wait(applied, 0.0)
    inbox.done(applied)
    inbox.refuse(refused, "because \ud800 of ü")
    assert inbox.wait(applied, 0.0)
    assert inbox.wait(refused, 0.0)
    assert inbox.refusal(applied) is None
    assert repr(inbox.refusal(refused)) == repr(BadInputError("because \ud800 of ü"))
    inbox.refuse(refused, "no such task", not_found=True)
    assert repr(inbox.refusal(refused)) == "NotFoundError('no such task')"
    assert inbox.pending() == []
    inbox.done(applied)
    inbox.refuse(applied, "gone already, and that is fine")


def test_a_folder_in_the_place_of_a_request_goes(inbox: Inbox) -> None:
    """Somebody has put it there after the request was taken; what the volume refuses to remove is not gone."""
    os.makedirs(f"{inbox.layout.inbox}/1-x.json/below")
    assert inbox.done("1-x.json")
    assert inbox.pending() == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("air_executor.store.trees.remove_tree", lambda _: None)
        os.mkdir(f"{inbox.layout.inbox}/1-x.json")
        assert not inbox.done("1-x.json")


def test_wait_ends_with_the_answer(inbox: Inbox) -> None:
    """Whoever waits is told soon after the answer."""
    name = inbox.post(Request("pause", "j"), 10.0)
    thread = threading.Timer(0.05, inbox.done, [name])
    thread.start()
    assert inbox.wait(name, 20.0)
    thread.join()


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        {},
        {"op": "add"},
        {"op": "explode", "job": "j"},
        {"op": ["add"], "job": "j"},
        {"op": {"add": 1}, "job": "j"},
        {"op": "add", "job": None},
        {"op": "add", "job": "../../etc"},
        {"op": "add", "job": "j\0"},
        {"op": "add", "job": "\ud800"},
        {"op": "add", "job": "j" * 1000},
        {"op": "retry", "job": "j", "task": 1},
        {"op": "add", "job": "j", "tasks": {}},
        {"op": "add", "job": "j", "tasks": ["true"]},
    ],
)
def test_what_is_no_request(inbox: Inbox, record: object) -> None:
    """JSON that is no request is refused as such; above all an id that leads out of the directory."""
    Path(inbox.layout.inbox, "1-x.json").write_text(json.dumps(record))
    with pytest.raises(CorruptFileError, match=r"1-x.json: not a request \(\S+.*\)$") as refused:
        inbox.read("1-x.json")
    assert "(None)" not in str(refused.value)


@given(data=st.binary(min_size=1, max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_garbage(inbox: Inbox, data: bytes) -> None:
    """No bytes make the reader fail in any other way."""
    Path(inbox.layout.inbox, "1-x.json").write_bytes(data)
    with pytest.raises(CorruptFileError):
        inbox.read("1-x.json")


def test_hostile_files(inbox: Inbox) -> None:
    """A fifo, a symlink and a directory are refused, and refusing moves them out of the way."""
    os.mkfifo(f"{inbox.layout.inbox}/1-fifo.json")
    os.symlink("/etc/passwd", f"{inbox.layout.inbox}/2-link.json")
    os.mkdir(f"{inbox.layout.inbox}/3-folder.json")
    for name in inbox.pending():
        with pytest.raises(CorruptFileError):
            inbox.read(name)
        inbox.refuse(name, "no request")
    assert inbox.pending() == []
    assert len(os.listdir(inbox.layout.refused)) == 6


def test_a_request_is_peeked_at(inbox: Inbox) -> None:
    """Whoever shows it reads no more than verb, job and task, and takes it from nobody."""
    assert inbox.peek(inbox.post(Request("retry", "j", "a"), 10.0)) == ("retry", "j", "a")
    assert inbox.peek(inbox.post(Request("pause", "j"), 11.0)) == ("pause", "j", None)
    assert inbox.peek("nothing.json") is None
    assert len(inbox.pending()) == 2


@given(data=st.binary(min_size=1, max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_what_cannot_be_peeked_at(inbox: Inbox, data: bytes) -> None:
    """Garbage is nothing to show, and as a reason it is none."""
    Path(inbox.layout.inbox, "1-x.json").write_bytes(data)
    Path(inbox.layout.refused, "1-x.json.reason").write_bytes(data)
    assert inbox.peek("1-x.json") is None
    assert str(inbox.refusal("1-x.json")) == "refused"
