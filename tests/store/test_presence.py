"""Whether a manager is at work, told from where locks of other containers cannot be seen, or can."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from air_executor.store import presence
from air_executor.store.layout import Layout
from air_executor.store.presence import HOST_NAMESPACE, SILENT, read_presence
from air_executor.store.this_host import this_host

ELSEWHERE = 17
"""No namespace has such a number."""


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Hold the manager's lock, as a process in a namespace below ours would."""
    with open(layout.lock, "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write(layout: Layout, **changes: object) -> None:
    """Write what a manager in a container of this machine notes of itself, with these changes."""
    record = {
        "kind": "file",
        "host": "3f2a9c11d0aa",
        "pid": 7,
        "boot": this_host().boot,
        "pid_namespace": ELSEWHERE,
        "since": "then",
        "until": None,
    }
    with open(layout.manager, "w", encoding="utf-8") as file:
        json.dump(record | changes, file)


@pytest.fixture(params=[HOST_NAMESPACE, 4_026_531_999], ids=["on the host", "in a container"])
def here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Which namespace we are in: that of the host, who sees everybody's locks, or a container's."""
    namespace: int = request.param
    monkeypatch.setattr(presence, "pid_namespace", lambda: namespace)
    return namespace


def test_a_lock_that_is_seen_is_held(layout: Layout, here: int) -> None:
    """The manager is in a container, and its lock is listed: it works, whatever its pid means to us."""
    write(layout)
    with locked(layout):
        assert read_presence(layout).running is True


def test_a_lock_that_is_not_seen(layout: Layout, here: int) -> None:
    """The host sees all locks, so there is none; a container cannot tell."""
    write(layout)
    assert read_presence(layout).running is (False if here == HOST_NAMESPACE else None)


def test_another_container_with_our_name(layout: Layout, here: int) -> None:
    """Containers may share a host name; that does not make the pid one of ours."""
    write(layout, host=os.uname().nodename, pid=os.getpid())
    assert read_presence(layout).running is (False if here == HOST_NAMESPACE else None)


@pytest.mark.parametrize("change", [{"boot": "another"}, {"boot": "another", "pid_namespace": HOST_NAMESPACE}])
def test_another_machine_cannot_be_judged(layout: Layout, here: int, change: dict[str, object]) -> None:
    """Another name and another boot: a machine whose locks are not listed here."""
    write(layout, **change)
    with locked(layout):
        assert read_presence(layout).running is None


def test_our_own_namespace_is_judged_by_pid_and_lock(layout: Layout, here: int) -> None:
    """Beside us, the process must be there and the lock be held."""
    write(layout, host=os.uname().nodename, pid=os.getpid(), pid_namespace=here)
    assert read_presence(layout).running is False
    with locked(layout):
        assert read_presence(layout).running is True
        write(layout, host=os.uname().nodename, pid=2**22 + 1, pid_namespace=here)
        assert read_presence(layout).running is False


def test_a_host_that_got_another_name_is_judged_by_its_boot(layout: Layout, here: int) -> None:
    """The pid is one of ours, whatever this machine was called when the manager wrote its record."""
    write(layout, host="monday", pid=os.getpid(), pid_namespace=here)
    assert read_presence(layout).running is False
    with locked(layout):
        assert read_presence(layout).running is True


def test_an_earlier_boot_is_over(layout: Layout, here: int) -> None:
    """Nothing of this machine has survived its restart."""
    write(layout, host=os.uname().nodename, pid=os.getpid(), boot="another", pid_namespace=here)
    with locked(layout):
        assert read_presence(layout).running is False


def test_a_record_without_a_namespace(layout: Layout, here: int) -> None:
    """An earlier version did not note it: believed on its own host alone."""
    write(layout, pid_namespace=None)
    with locked(layout):
        assert read_presence(layout).running is None
        write(layout, pid_namespace=None, host=os.uname().nodename, pid=os.getpid())
        assert read_presence(layout).running is True


@pytest.mark.parametrize("record", [{"host": "pod-2", "boot": "another"}, {"pid_namespace": 41}])
def test_a_manager_with_a_lease_is_heard(layout: Layout, here: int, record: dict[str, object]) -> None:
    """On whatever node it is: its record is written again and again, by the volume's clock."""
    write(layout, kind="lease", lease="3f", **record)
    assert read_presence(layout).running is True
    written = os.stat(layout.manager).st_mtime
    os.utime(layout.manager, (written - SILENT - 1, written - SILENT - 1))
    assert read_presence(layout).running is False
    assert read_presence(layout).end.endswith("cannot renew its Lease")
    assert os.listdir(layout.tmp) == []
    write(layout, kind="lease", lease="3f", until="now", **record)
    assert read_presence(layout).running is False


def test_a_manager_with_a_lease_in_our_container(layout: Layout, here: int) -> None:
    """Its process is seen, or seen to be gone."""
    write(layout, kind="lease", lease="3f", pid=os.getpid(), pid_namespace=here)
    assert read_presence(layout).running is True
    write(layout, kind="lease", lease="3f", pid=2**22 - 3, pid_namespace=here)
    assert read_presence(layout).running is False


def test_a_manager_with_a_lease_that_cannot_be_judged(layout: Layout, here: int) -> None:
    """An earlier version wrote only when there was news; and who may write nothing does not know the volume's time."""
    write(layout, kind="lease")
    assert read_presence(layout).running is None
    os.rmdir(layout.tmp)
    write(layout, kind="lease", lease="3f")
    assert read_presence(layout).running is None


def test_who_it_is(layout: Layout) -> None:
    """A container's name is no host's: people look for it elsewhere."""
    write(layout)
    assert read_presence(layout).who == "pid 7 in container 3f2a9c11d0aa, since then"
    write(layout, pid_namespace=HOST_NAMESPACE, host="wolf")
    assert read_presence(layout).who == "pid 7 on wolf, since then"
