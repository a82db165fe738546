"""What `manager.json` says, and whether that manager is running, without touching its lock.

A probe that took the lock, however shortly, could make a starting manager believe that another one is there. So this
reads what the manager wrote and asks the kernel which locks there are. The kernel tells a process only of locks held in
its own PID namespace and those below it: the host sees a manager in a container, a container sees none but its own. A
manager with a Lease has no lock; it writes its record again and again. Used by whatever shows a job.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from air_executor.errors import CorruptFileError, NotFoundError, StoreError
from air_executor.model.records import ManagerFile
from air_executor.store import codec, files
from air_executor.store.layout import Layout

MAX_RECORD = 1024 * 1024
SILENT = 90.0
"""Seconds without a write after which a manager with a Lease counts as not running: it writes every 10 s, and what it
wrote may be seen as late as the attribute caches of network volumes allow, which is a minute."""
HOST_NAMESPACE = 0xEFFFFFFC
"""The inode of the PID namespace that a Linux kernel starts with (`PROC_PID_INIT_INO`); who is in it sees everybody."""


@dataclass(frozen=True, slots=True)
class Presence:
    """What is known of the manager."""

    running: bool | None
    """None: it was started on another host or in another container, so it cannot be told from here."""
    record: dict[str, Any]
    """What `manager.json` says; empty if there never was a manager."""

    @property
    def problems(self) -> list[str]:
        """What the manager had to report: files that it could not read, and the like."""
        return [str(problem) for problem in self.record.get("problems") or ()]

    @property
    def end(self) -> str:
        """How a manager that is not running ended without a clean exit."""
        if self.record.get("kind") == "lease":
            return "was killed or crashed, or cannot renew its Lease"
        return "was killed or crashed"

    @property
    def backend(self) -> str | None:
        """The backend of the manager that runs, or ran, here."""
        return self._backend.get("name")

    @property
    def backend_problem(self) -> str | None:
        """Why the backend could not answer when the manager last asked; None if it could, or if nobody asks it."""
        return self._backend.get("problem") if self.running is not False else None

    @property
    def _backend(self) -> dict[str, str | None]:
        found = self.record.get("backend")
        return found if isinstance(found, dict) else {}

    @property
    def undelivered(self) -> dict[str, str]:
        """By target of notifications: what is not delivered, and why."""
        found = self.record.get("undelivered")
        return dict(found) if isinstance(found, dict) else {}

    @property
    def waiting(self) -> dict[str, str]:
        """By job: what its next task has to wait for before the backend can start it."""
        found = self.record.get("waiting")
        return found if self.running is not False and isinstance(found, dict) else {}

    @property
    def only(self) -> list[str] | None:
        """The jobs for whose sake an `air-executor run` manages here, taking no others; None: it takes all."""
        only = self.record.get("only")
        return [str(job) for job in only] if self.running is not False and isinstance(only, list) else None

    def passes_over(self, job: str, submitted_by: str | None) -> bool:
        """Tell whether the manager leaves this job to another one. What runs submitted may be of its own job."""
        return self.only is not None and job not in self.only and submitted_by is None

    @property
    def page(self) -> str | None:
        """Address of the manager's page; None: it has none, or an older version did not record it."""
        page = self.record.get("page")
        return page if isinstance(page, str) else None

    @property
    def max_runners(self) -> int | None:
        """How many runners the manager allows; None: none is running, or an older version did not record it."""
        found = self.record.get("max_runners")
        return found if self.running is not False and isinstance(found, int) else None

    @property
    def pools(self) -> dict[str, int] | None:
        """Its limits by pool; None as for `max_runners`."""
        found = self.record.get("pools")
        return found if self.running is not False and isinstance(found, dict) else None

    @property
    def reserved(self) -> dict[str, str]:
        """By pool, the task that is the next one to start in it, and waits for room."""
        found = self.record.get("reserved")
        return found if self.running is not False and isinstance(found, dict) else {}

    @property
    def who(self) -> str:
        """The manager as messages name it."""
        namespace = self.record.get("pid_namespace")
        where = "on" if namespace in (None, HOST_NAMESPACE) else "in container"
        return f"pid {self.record.get('pid')} {where} {self.record.get('host')}, since {self.record.get('since')}"


def read_presence(layout: Layout) -> Presence:
    """Return what is known of the manager of this directory."""
    try:
        record = read_record(layout)
    except StoreError:
        record = {}
    if not record or record.get("until"):
        return Presence(running=False, record=record)
    return Presence(running=_running(layout, record), record=record)


def pid_namespace() -> int | None:
    """Return what tells the PID namespace of this process from all others of this boot; None where there are none."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None


def read_record(layout: Layout) -> dict[str, Any]:
    """Return what `manager.json` says; empty if there is none or it is no record.

    Raises:
        StoreError: the volume refused, so nothing is known.
    """
    try:
        found = files.read(layout.manager, MAX_RECORD)
    except CorruptFileError:
        return {}
    record = None if found is None else codec.read_small(ManagerFile, found[0])
    return {} if record is None else asdict(record)


def _running(layout: Layout, record: dict[str, Any]) -> bool | None:  # noqa: PLR0911 - one for each way to know
    boot, ours, its = _boot(), pid_namespace(), record.get("pid_namespace")
    if record.get("kind") == "lease":
        here = boot is not None and record.get("boot") == boot and its is not None and its == ours
        return _alive(record) if here else _is_heard(layout, record)
    same_host = record.get("host") == os.uname().nodename
    same_boot = record.get("boot") == boot if boot is not None else same_host
    if record.get("kind", "file") != "file" or not (same_host or same_boot):
        return None
    if not same_boot:
        return False
    # No namespace: no Linux, or written by a version that did not note it.
    if its == ours or (its is None and same_host):
        return _alive(record) and _locked(layout)
    if its is None:
        return None
    if _locked(layout):
        return True
    return False if ours == HOST_NAMESPACE else None


def _is_heard(layout: Layout, record: dict[str, Any]) -> bool | None:
    """Tell whether a manager with a Lease has written its record lately, by the volume's clock; None: unknown."""
    if record.get("lease") is None:
        return None  # a version that wrote only when there was something to say
    probe = f"{layout.tmp}/clock-{files.random_hex(8)}"
    try:
        silent_for = files.write_new(probe, b"", sync=False) - os.stat(layout.manager).st_mtime
    except (StoreError, NotFoundError, OSError):
        return None
    files.remove(probe)
    return silent_for < SILENT


def _alive(record: dict[str, Any]) -> bool:
    pid = record.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _boot() -> str | None:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def _locked(layout: Layout) -> bool:
    """Tell whether a process that we see holds the manager's lock; taken for granted where none are listed (macOS)."""
    try:
        inode = os.stat(layout.lock).st_ino
        with open("/proc/locks", encoding="ascii") as file:
            locks = file.read()
    except FileNotFoundError:
        return not os.path.exists("/proc/locks")
    except OSError:
        return True
    return any(f":{inode} " in line and " FLOCK " in line for line in locks.splitlines())


def start_command() -> str:
    """Return the command that starts a manager, as advice has it: inside Docker Compose it is one for the host."""
    return "docker compose up -d" if _in_compose() else "air-executor manager"


def show_token_command() -> str:
    """Return the command that prints the first token, as advice has it."""
    return f"{'docker compose run --rm cli' if _in_compose() else 'air-executor'} token show"


def _in_compose() -> bool:
    return bool(os.environ.get("COMPOSE_PROJECT_NAME")) and pid_namespace() != HOST_NAMESPACE
