"""The Lease as a proof of who manages: taken when it has run out, given up before it does, never by two."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from air_executor.backends.lease_record import LeaseSnapshot
from air_executor.errors import DirectoryLostError, LeaseUnsureError, ManagerHeldError
from air_executor.manager.leader import LEASE, RENEW_EVERY, RENEW_WITHIN, LeaderLease, TakeoverTimer
from air_executor.manager.lease import FileLease, Lease
from air_executor.manager.loop import Manager
from air_executor.manager.status_writer import BEAT
from air_executor.manager.wakeups import Wakeups
from air_executor.model.names import Host
from air_executor.store.layout import Layout
from tests.manager.rig import HOST, World, lose_lock
from tests.manager.server import Server


@pytest.fixture(autouse=True)
def _no_renewals_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is the server's here: no thread renews after real seconds."""
    monkeypatch.setattr(LeaderLease, "keep_renewing", lambda _: None)


@pytest.fixture
def server() -> Server:
    """Return a server without a record."""
    return Server()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Return an empty state directory."""
    made = Layout(tmp_path / "state")
    os.makedirs(made.tmp)
    return made


def never(seconds: float) -> bool:
    """Do not wait."""
    return False


def waits(server: Server, limit: float, tick: Callable[[], None] = lambda: None) -> Callable[[float], bool]:
    """Return a way to wait that lets the server's time pass, up to a limit."""
    end = server.now + limit

    def wait(seconds: float) -> bool:
        server.now += seconds
        tick()
        return server.now < end

    return wait


# Patience, which is pure


def test_patience_ends_when_the_record_has_not_changed_for_the_lease() -> None:
    """It counts from when a version was first seen by one's own clock, and restarts after each change."""
    patience = TakeoverTimer("me")
    assert patience.left(LeaseSnapshot("other", "1"), 100.0) == LEASE
    assert patience.left(LeaseSnapshot("other", "1"), 110.0) == LEASE - 10
    assert patience.left(LeaseSnapshot("other", "2"), 114.9) == LEASE
    assert patience.left(LeaseSnapshot("other", "2"), 114.9 + LEASE) == 0


def test_nobody_waits_for_a_record_that_nobody_holds() -> None:
    """No record, one that was given back, and one's own are taken at once."""
    assert TakeoverTimer("me").left(None, 0.0) == 0
    assert TakeoverTimer("me").left(LeaseSnapshot("", "1"), 0.0) == 0
    assert TakeoverTimer("me").left(LeaseSnapshot("me", "1"), 0.0) == 0


def test_holder_stops_before_others_begin() -> None:
    """Between the two there is time for what is under way, and a renewal may fail once; fail-over is within 20 s."""
    assert RENEW_EVERY * 2 <= RENEW_WITHIN
    assert RENEW_WITHIN + 4 <= LEASE < 18


# Taking and losing


def test_second_waits_until_the_first_falls_silent(server: Server, layout: Layout) -> None:
    """While renewals come nobody else takes it; when they stop, the old one may not act before the new one may."""
    first, second = server.lease(layout, "one"), server.lease(layout, "two")
    assert first.acquire(never)
    assert not second.acquire(waits(server, 60, first.renew))
    first.check()
    silent_since = server.now

    def tick() -> None:
        if server.now - silent_since > RENEW_WITHIN:
            with pytest.raises(LeaseUnsureError, match="last renewed"):
                first.check()

    assert second.acquire(waits(server, 60, tick))
    assert LEASE <= server.now - silent_since <= LEASE + 2
    second.check()
    assert server.found is not None
    assert server.found.holder.startswith("two_")


def test_replaced_holder_learns_of_it(server: Server, layout: Layout) -> None:
    """Its next renewal meets the other's record; it reacquires nothing and releases nothing."""
    first, second = server.lease(layout), server.lease(layout)
    first.acquire(never)
    assert second.acquire(waits(server, 60))
    with pytest.raises(LeaseUnsureError):
        first.check()
    first.renew()
    with pytest.raises(DirectoryLostError, match="is held by here_"):
        first.check()
    with pytest.raises(ManagerHeldError, match="no longer manages"):
        first.reacquire()
    before = server.found
    first.release()
    assert server.found == before
    second.check()


def test_given_back_is_taken_at_once(server: Server, layout: Layout) -> None:
    """After a clean stop nobody waits."""
    first, second = server.lease(layout), server.lease(layout)
    first.acquire(never)
    first.release()
    assert second.acquire(never)
    assert server.writes[1] == ""


def test_lost_answers_are_no_loss(server: Server, layout: Layout) -> None:
    """A renewal and a take-over that were done, and of which nobody learned, are one's own when looked at again."""
    lease = server.lease(layout)
    server.loses_answers = True

    def answers() -> None:
        server.loses_answers = False

    assert lease.acquire(waits(server, 10, answers))
    assert server.found is not None
    server.touch(server.found.holder)
    lease.renew()
    lease.check()


def test_silent_server(server: Server, layout: Layout) -> None:
    """The holder goes on for a while, then stops, and goes on when the server answers again with nobody in between."""
    lease = server.lease(layout)
    lease.acquire(never)
    server.silent = True
    server.now += RENEW_WITHIN
    lease.check()
    server.now += 0.1
    with pytest.raises(LeaseUnsureError):
        lease.check()
    with pytest.raises(LeaseUnsureError):
        lease.reacquire()
    server.silent = False
    lease.renew()
    lease.check()
    lease.reacquire()


def test_deleted_record_is_created_again(server: Server, layout: Layout) -> None:
    """Its holder renewed it just now, so nobody can have come in between: the first who creates one has it."""
    first = server.lease(layout)
    first.acquire(never)
    bound = first.record.lease
    server.found = None
    first.renew()
    first.check()
    assert first.record.lease not in (None, bound)
    server.found = None
    server.write("here_0badcafe", None, LEASE)
    first.renew()
    with pytest.raises(DirectoryLostError, match="is held by here_"):
        first.check()


def test_deleted_record_is_nobodys(server: Server, layout: Layout) -> None:
    """Who was paused while somebody deleted the record cannot know who came after, and leaves."""
    lease = server.lease(layout)
    lease.acquire(never)
    server.found = None
    server.now += RENEW_WITHIN + 1
    lease.renew()
    with pytest.raises(ManagerHeldError, match="held by nobody"):
        lease.reacquire()


def test_silent_server_is_waited_for(server: Server, layout: Layout) -> None:
    """A manager that starts before the server answers begins when it does."""
    server.silent = True
    start = server.now

    def tick() -> None:
        server.silent = server.now < start + 9

    assert server.lease(layout).acquire(waits(server, 60, tick))


def test_told_to_stop_while_standing_by(server: Server, layout: Layout) -> None:
    """It leaves without having written anything, on the server or in the directory."""
    server.touch("other")
    assert not server.lease(layout).acquire(never)
    assert server.writes == ["other"]
    assert not os.path.exists(layout.manager)


def test_who_does_not_stand_by_is_told_who_holds_it(server: Server, layout: Layout) -> None:
    """`run` follows the files meanwhile."""
    server.touch("other")
    with pytest.raises(ManagerHeldError, match="other holds the record"):
        server.lease(layout, stands_by=False).acquire(never)


# Lock files and Leases


def both(server: Server, layout: Layout) -> list[tuple[Lease, Lease]]:
    """Return a lease of each kind with a manager of the other kind, which is another process, on another host."""
    return [
        (FileLease(layout, Host("there", "boot")), server.lease(layout)),
        (server.lease(layout), FileLease(layout, HOST)),
    ]


@pytest.mark.parametrize("order", [0, 1])
def test_the_kinds_refuse_each_other(server: Server, layout: Layout, order: int) -> None:
    """Whichever is there, the other leaves, and says why and what to do; after a clean stop it may come."""
    there, comes = both(server, layout)[order]
    there.acquire(never)
    with pytest.raises(ManagerHeldError, match=r"stop that manager first .*manager\.json"):
        comes.acquire(never)
    there.check()
    os.makedirs(layout.epoch_tmp(1))
    there.record.write(1, "test", 0.0, {}, until=True)
    there.release()
    assert comes.acquire(never)
    comes.release()


def test_a_refused_lease_is_given_back(server: Server, layout: Layout) -> None:
    """Nobody has to wait for a record whose holder could not begin."""
    FileLease(layout, Host("there", "boot")).acquire(never)
    with pytest.raises(ManagerHeldError):
        server.lease(layout).acquire(never)
    assert server.found is not None
    assert server.found.holder == ""


@pytest.mark.parametrize("order", [0, 1])
def test_the_kinds_that_began_together(server: Server, layout: Layout, order: int) -> None:
    """If neither saw the other, the one whose record was written over stops acting, and leaves."""
    first, second = both(server, layout)[order]
    first.acquire(never)
    hidden = Path(layout.manager).rename(Path(layout.manager).with_suffix(".hidden"))
    second.acquire(never)
    assert hidden.exists()
    with pytest.raises(DirectoryLostError, match="written by another manager"):
        first.check()
    with pytest.raises(ManagerHeldError):
        first.reacquire()
    second.check()


def test_crashed_file_manager_of_this_host_holds_up_nobody(server: Server, layout: Layout) -> None:
    """Where the kernel shows that its lock is gone, so is the manager."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        pytest.skip("only Linux tells boots and locks")
    old = FileLease(layout, Host(os.uname().nodename, boot.read_text(encoding="ascii").strip()))
    old.acquire()
    lose_lock(old)
    assert server.lease(layout).acquire(never)


# Two clusters with one volume

ANOTHER = "belongs to a manager with another Lease"


def test_manager_of_another_cluster_refuses(server: Server, layout: Layout) -> None:
    """Each has a Lease of its own, so the directory itself says whose it is; the first goes on undisturbed."""
    first, second = server.lease(layout, "one"), Server().lease(layout, "two")
    first.acquire(never)
    written = Path(layout.manager).read_bytes()
    with pytest.raises(ManagerHeldError, match=ANOTHER) as refused:
        second.acquire(never)
    assert "\n" not in str(refused.value)
    assert "rm " in str(refused.value)
    assert Path(layout.manager).read_bytes() == written
    first.renew()
    first.check()


def test_directory_is_not_taken_back_and_forth(server: Server, layout: Layout) -> None:
    """Someone removed the record under a running manager: the later one has the directory, and the first leaves."""
    first, second = server.lease(layout, "one"), Server().lease(layout, "two")
    first.acquire(never)
    os.unlink(layout.manager)
    second.acquire(never)
    with pytest.raises(DirectoryLostError, match="written by another manager"):
        first.check()
    with pytest.raises(ManagerHeldError, match=ANOTHER):
        first.reacquire()
    second.check()


def test_a_record_of_a_version_without_leases(server: Server, layout: Layout) -> None:
    """An upgrade finds no uid in the record, and takes the directory as before."""
    Path(layout.manager).write_text(json.dumps({"kind": "lease", "host": "pod-1", "pid": 1}), encoding="utf-8")
    assert server.lease(layout).acquire(never)


# With a manager


def leader(world: World) -> LeaderLease:
    """Return the lease of the living manager."""
    assert isinstance(world.manager.lease, LeaderLease)
    return world.manager.lease


@pytest.fixture
def led(tmp_path: Path, server: Server) -> World:
    """Return a world whose managers have a Lease; time on the server passes as they stand by."""
    world = World(tmp_path)
    world.lease = lambda: server.lease(world.layout)
    return world


@pytest.fixture
def standby(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """Let managers stand by in the server's time."""

    def wait(_: object, seconds: float) -> bool:
        server.now += seconds
        return False

    monkeypatch.setattr(Wakeups, "sleep", wait)


def test_manager_says_what_it_is(led: World) -> None:
    """`manager.json` names the kind while it works and after it has left."""
    led.start()
    assert json.loads(Path(led.layout.manager).read_text(encoding="utf-8"))["kind"] == "lease"
    led.stop()
    found = json.loads(Path(led.layout.manager).read_text(encoding="utf-8"))
    assert (found["kind"], found["until"] is not None) == ("lease", True)
    assert not os.listdir(led.layout.tmp)


@pytest.mark.parametrize("left", [0, 1])
def test_a_directory_moves_once_nothing_runs(led: World, server: Server, left: int) -> None:
    """A clean stop leaves it to any cluster, unless runners go on where they are: they would be run twice."""
    led.start()
    led.submit("j", "a")
    led.cycle()
    if not left:
        led.exit("j/a")
        led.until(lambda: led.job("j").phase == "succeeded")
    led.stop()
    other = Server().lease(led.layout, "two")
    if left:
        with pytest.raises(ManagerHeldError, match=ANOTHER):
            other.acquire(never)
        assert server.lease(led.layout).acquire(never)
    else:
        assert other.acquire(never)


def test_idle_manager_is_heard(led: World) -> None:
    """It has nothing to say, and says it every few seconds: its Lease is nothing that a reader of files can see."""
    led.start()
    led.cycle()
    before = os.stat(led.layout.manager).st_ino
    led.clock.pass_time(BEAT + 0.1)
    leader(led).renew()
    led.cycle()
    assert os.stat(led.layout.manager).st_ino != before
    led.stop()


def test_nothing_is_done_while_unsure(led: World, server: Server) -> None:
    """A manager that cannot renew starts nothing and answers nobody; when it can again, it goes on where it was."""
    manager = led.start()
    led.submit("j", "a", "b")
    led.cycle()
    led.exit("j/a")
    server.now += RENEW_WITHIN + 1
    request = led.ask("pause", "j")
    for _ in range(3):
        led.clock.pass_time(1.1)
        with pytest.raises(LeaseUnsureError):
            manager.cycle()
    assert led.running() == {}
    assert led.inbox.waiting(request)
    leader(led).renew()
    epoch = manager.epoch
    led.until(lambda: not led.inbox.waiting(request))
    assert led.job("j").phase == "paused"
    assert manager.epoch == epoch
    led.stop()


def cycles(world: World, manager: Manager) -> None:
    """Let a manager go on for some time."""
    for _ in range(5):
        world.clock.pass_time(1.1)
        manager.cycle()


MOMENTS = ["check", "flush", "sync", "act"]


@pytest.mark.usefixtures("standby")
@pytest.mark.parametrize("moment", MOMENTS)
def test_leader_that_is_paused_replaced_and_woken(
    led: World, server: Server, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Between its check and its write another took over: nothing is lost, nothing is done twice, and it leaves."""
    old = led.start()
    led.submit("j", "a", "b")
    led.cycle()
    led.exit("j/a")
    request = led.ask("add", "j", tasks=[{"id": "c", "command": "c"}])
    woken = []

    def then(real: Callable[..., object]) -> Callable[..., object]:
        def paused(*args: object) -> object:
            if led.manager is old:
                led.let_go()
                led.start()
                woken.append(moment)
            return real(*args)

        return paused

    journal = old.state.journal
    target, name = {
        "check": (old.lease, "check"),
        "flush": (journal, "flush"),
        "sync": (journal, "sync"),
        "act": (old.scheduler, "_spawn"),
    }[moment]
    if moment == "act":
        monkeypatch.setattr(old.act_queue, "carry_out", then(old.act_queue.carry_out))
    else:
        monkeypatch.setattr(target, name, then(getattr(target, name)))
    with pytest.raises((ManagerHeldError, LeaseUnsureError, DirectoryLostError)):
        cycles(led, old)
    assert woken == [moment]
    with pytest.raises((ManagerHeldError, DirectoryLostError, LeaseUnsureError)):
        old.close()
    assert not led.overlaps
    led.do("j/b", "j/c")
    assert not led.inbox.waiting(request)
    assert [launch.task for launch in led.begun.values()] == ["a", "b", "c"]
    assert led.job("j").phase == "succeeded"
    led.stop()


@pytest.mark.usefixtures("standby")
def test_woken_leader_leaves_the_others_runner_alone(led: World) -> None:
    """What it had decided to stop, or would take for an orphan, is not removed any more."""
    old = led.start()
    led.submit("j", "a", "b", on_failure="continue")
    led.cycle()
    led.ask("cancel", "j", task="a")
    real = old.act_queue.carry_out

    def paused() -> None:
        if led.manager is old:
            led.let_go()
            led.start()
            led.until(lambda: "j/b" in led.running())
        real()

    old.act_queue.carry_out = paused  # type: ignore[method-assign]
    with pytest.raises((LeaseUnsureError, DirectoryLostError, ManagerHeldError)):
        old.cycle()
    assert set(led.running()) == {"j/b"}
    led.stop()
