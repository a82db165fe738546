#!/usr/bin/env python3
"""air-carrier: brings a run's files to a pod that sees no volume, and what the run leaves back to its manager.

    air-carrier fetch      before the task starts: claim the run, then fetch runner, inputs and workspace
    air-carrier deliver    beside the task: deliver output and queued lines as they come, the rest once it has ended
    air-carrier carry      both, one after the other

It talks to `/transport/v1` of the manager (`web/transport`). A manager that does not answer is waited for: what the
task writes stays on the pod's own disk meanwhile. It knows nothing of platforms, uses the standard library alone, and
is part of the image `runner`. Exit status: 0 done; 96 it cannot be done, which stderr explains; 97 another runner has
the run.

Variables:
    AIR_CARRIER_URL       address of the manager, such as http://air-executor:8080
    AIR_CARRIER_TOKEN     token of the run
    AIR_CARRIER_HOLDER    who asks: the same for both commands of one pod, and for no other pod
    AIR_CARRIER_CA        certificates (PEM) to trust besides the system's
    AIR_CARRIER_PATIENCE  seconds for which a manager that does not answer is waited for
    AIR_CARRIER_ROOT      folder of the run's files
    AIR_CARRIER_SIGNALED  set: SIGTERM says that the runner has ended, whose processes cannot be seen from here
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import math
import os
import platform
import shutil
import signal
import ssl
import stat
import sys
import tarfile
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import IO, BinaryIO, TypeVar

OUT, WORKSPACE, BIN, OWN = "out", "workspace", "bin", "carrier"
"""Folders: those of the run, and our own."""
LOG, QUEUE, RESULT, CLAIM, EXIT = "output.log", "queue.jsonl", "result.json", "claim", "exit.json"
FETCHED, FILES, SNAPSHOT = "fetched", "files", "snapshot.json"
END = "end"
"""Last member of what is fetched, and last entry of what is delivered: without it something has broken off."""
CANNOT, LOST_CLAIM = 96, 97
PIECE = 1 << 20
"""Bytes of a file that are delivered at a time."""
RESULT_LIMIT = 16 * 1024 + 1
"""Bytes of a result that are delivered: one more than the manager takes, so that it can say so."""
QUEUE_LIMIT = 64 * 1024 * 1024 + 1
"""The same for queued lines."""
OUTCOME_LIMIT = 1 << 16
ANSWER_LIMIT = 2000
TIMEOUT = 60.0
"""Seconds for one answer."""
CONNECT_TIMEOUT = 5.0
"""Seconds for a connection: one that was begun while the manager was away may never come about, another one does."""
PATIENCE = 3600.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds between attempts to reach the manager: twice as many each time."""
QUICK, SLOW = 0.05, 0.5
"""Seconds between two looks at what the task has written: from the first to the second while nothing comes."""
CHECK_IN = 600.0
"""Seconds without anything to deliver after which the token is renewed all the same: a task may be silent for days."""
GONE_AFTER = 1.0
"""Seconds without a process of the runner after which it has ended without an outcome."""
NO_CONTENT, REFUSED, FAILED, CONFLICT = 204, 300, 500, 409
"""HTTP statuses: it is done; from here on nothing was; from here on it may be later; another runner has the run."""
LATER = frozenset({408, 429})
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of our own disk, which no waiting for the manager ends."""

T = TypeVar("T")
Body = bytes | Callable[[], AbstractContextManager[BinaryIO]]
Snapshot = dict[str, str]
"""What is in a folder, by path: kind, and what tells that it has changed. Short, for there may be very many."""


class AnswerError(Exception):
    """The manager has answered, and would refuse the same request again."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def say(text: str) -> None:
    """Write a line for people."""
    sys.stderr.write(f"air-carrier: {text}\n")
    sys.stderr.flush()


class Uplink:
    """The connection to the manager; one request at a time."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._url = urllib.parse.urlsplit(env["AIR_CARRIER_URL"])
        self.token = env["AIR_CARRIER_TOKEN"].strip()
        """The latest one: an answer may bring the next."""
        self._holder = env["AIR_CARRIER_HOLDER"]
        self._patience = float(env.get("AIR_CARRIER_PATIENCE", PATIENCE))
        self._tls = ssl.create_default_context() if self._url.scheme == "https" else None
        if self._tls is not None and env.get("AIR_CARRIER_CA"):
            self._tls.load_verify_locations(cadata=env["AIR_CARRIER_CA"])
        self._connection: http.client.HTTPConnection | None = None

    def ask(
        self, method: str, path: str, body: Body = b"", use: Callable[[http.client.HTTPResponse], None] | None = None
    ) -> bytes:
        """Send a request until it is answered; return the content of the answer, unless `use` takes it.

        `body` is bytes, or opens a file with them.

        Raises:
            AnswerError: the manager refuses.
            OSError: it has not answered for too long.
        """
        pause, until, said = FIRST_PAUSE, time.monotonic() + self._patience, ""
        while True:
            try:
                return self._ask_once(method, path, body, use)
            except (OSError, http.client.HTTPException, tarfile.TarError, EOFError) as error:
                self._connection = None
                if isinstance(error, OSError) and error.errno in NO_SPACE:
                    raise
                problem = f"{type(error).__name__}: {error}"
            if time.monotonic() + pause > until:
                msg = f"the manager at {self._url.netloc} does not answer: {problem}"
                raise OSError(msg)
            if problem != said:
                say(f"waiting for the manager at {self._url.netloc}: {problem}")
                said = problem
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)

    def close(self) -> None:
        """Close the connection; another request opens it again."""
        if self._connection is not None:
            self._connection.close()

    def _ask_once(
        self, method: str, path: str, body: Body, use: Callable[[http.client.HTTPResponse], None] | None
    ) -> bytes:
        with contextlib.ExitStack() as opened:
            content = body if isinstance(body, bytes) else opened.enter_context(body())
            response = self._send(method, f"{self._url.path.rstrip('/')}/transport/v1/{path}", content)
            if response.status >= REFUSED:
                text = response.read(ANSWER_LIMIT).decode(errors="replace").strip()
                if response.status >= FAILED or response.status in LATER:
                    msg = f"{response.status}: {text}"
                    raise OSError(msg)
                raise AnswerError(response.status, text)
            if response.status == NO_CONTENT:
                return response.read()  # there is nothing, but unread it would be in the way of the next answer
            if use is None:
                found = response.read()
            else:
                use(response)
                found = b"used"
                while response.read(PIECE):  # a broken answer shows only at its end
                    pass
            if not found:  # one that has broken off among its headers looks complete
                raise OSError("the answer has broken off")
            self.token = response.headers.get("Air-Run-Token") or self.token
            return found

    def _send(self, method: str, path: str, content: bytes | BinaryIO) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self.token}", "Air-Holder": self._holder}
        if not isinstance(content, bytes):  # else it would be sent in chunks, which not everything in between takes
            headers["Content-Length"] = str(os.fstat(content.fileno()).st_size)
        if self._connection is not None:
            with contextlib.suppress(OSError, http.client.HTTPException):  # the manager closes it when it is idle
                self._connection.request(method, path, content, headers)
                return self._connection.getresponse()
            if not isinstance(content, bytes):
                content.seek(0)
        self._connection = self._connect()
        self._connection.request(method, path, content, headers)
        return self._connection.getresponse()

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._tls is None:
            made = http.client.HTTPConnection(host, port or 80, timeout=CONNECT_TIMEOUT)
        else:
            made = http.client.HTTPSConnection(host, port or 443, timeout=CONNECT_TIMEOUT, context=self._tls)
        made.connect()
        made.sock.settimeout(TIMEOUT)
        return made


class Folders:
    """The folders of one run."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.out, self.workspace, self.own = (f"{root}/{name}" for name in (OUT, WORKSPACE, OWN))


# --- fetch ------------------------------------------------------------------------------------------------------------


def fetch(manager: Uplink, folders: Folders) -> None:
    """Claim the run, and fetch what it needs."""
    if os.path.lexists(f"{folders.out}/{CLAIM}"):  # a node that started its pod anew fetches once more
        raise AnswerError(CONFLICT, "the run has begun in this pod already")
    shutil.rmtree(folders.workspace, ignore_errors=True)
    for folder in (folders.out, folders.workspace, folders.own, f"{folders.root}/{BIN}"):
        os.makedirs(folder, exist_ok=True)
    manager.ask("POST", "claim")
    machine = urllib.parse.quote(platform.machine())
    manager.ask("GET", f"inputs?machine={machine}", use=lambda answer: unpack(answer, folders.root))
    fetched = f"{folders.own}/{FETCHED}"

    def unpack_workspace(answer: http.client.HTTPResponse) -> None:
        shutil.rmtree(fetched, ignore_errors=True)  # of an answer that broke off
        os.makedirs(f"{fetched}/{FILES}")
        unpack(answer, fetched)

    manager.ask("GET", "workspace", use=unpack_workspace)
    for name in os.listdir(f"{fetched}/{FILES}"):
        os.rename(f"{fetched}/{FILES}/{name}", f"{folders.workspace}/{name}")
    with open(f"{folders.own}/{SNAPSHOT}", "w", encoding="utf-8") as file:
        json.dump(snapshot(folders.workspace), file)


def unpack(answer: http.client.HTTPResponse, folder: str) -> None:
    """Unpack what the manager sends. Whatever a link in it leads to, is in the pod of its own task.

    Raises:
        tarfile.TarError, EOFError: it has broken off.
    """
    trusted = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
    with tarfile.open(fileobj=answer, mode="r|") as tar:
        while (member := tar.next()) is not None:
            if member.name == END:
                return
            if member.isdir():
                member.mode |= 0o700  # else what belongs into it could not be written
            tar.extract(member, folder, **trusted)  # type: ignore[arg-type]
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
    raise EOFError("the answer has broken off")


def snapshot(top: str) -> Snapshot:
    """Return what is in a folder. A folder that its owner cannot read is made readable: what is in it belongs to it."""
    found: Snapshot = {}
    waiting = [""]
    while waiting:
        above = waiting.pop()
        with readable(f"{top}/{above}", os.scandir) as entries:
            for entry in entries:
                path = f"{above}{entry.name}"
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    found[path] = "folder"
                    waiting.append(f"{path}/")
                elif stat.S_ISREG(info.st_mode):
                    found[path] = f"file {info.st_size} {info.st_mtime_ns} {info.st_mode & 0o100} {info.st_ino}"
                elif stat.S_ISLNK(info.st_mode):
                    found[path] = f"link {os.readlink(entry.path)}"
    return found


def readable(path: str, open_it: Callable[[str], T]) -> T:
    """Open a file or folder of our own user, who may have taken the right to read it from itself."""
    try:
        return open_it(path)
    except PermissionError:
        os.chmod(path, os.stat(path).st_mode | 0o500)
        return open_it(path)


# --- deliver ----------------------------------------------------------------------------------------------------------


def read_file(path: str, limit: int, offset: int = 0) -> bytes:
    """Return a part of a regular file; nothing if there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.pread(fd, limit, offset) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)


class Growing:
    """A file that the task appends to, and how much of it has been delivered."""

    def __init__(self, manager: Uplink, folders: Folders, name: str, limit: float = math.inf) -> None:
        """`limit`: bytes that are delivered at most."""
        self._manager = manager
        self._path = f"{folders.out}/{name}"
        self._name = name
        self._limit = limit
        self._sent = 0
        self._asked = time.monotonic()

    def send(self) -> bool:
        """Deliver what is new, and tell whether anything was."""
        before = self._sent
        while data := read_file(self._path, int(min(PIECE, self._limit - self._sent)), self._sent):
            self._append(data)
        if time.monotonic() - self._asked > CHECK_IN:
            self._append(b"")
        return self._sent > before

    def _append(self, data: bytes) -> None:
        # Its size is where to go on, also where that is less than before: its volume may have been restored.
        self._sent = int(self._manager.ask("PATCH", f"files/{self._name}?offset={self._sent}", data))
        self._asked = time.monotonic()


class Runner:
    """The runner beside us, as far as its files and processes show it. Times are monotonic seconds."""

    def __init__(self, folders: Folders, *, signaled: bool) -> None:
        """`signaled`: only SIGTERM tells of an end without an outcome."""
        self._out = folders.out
        self._signaled = signaled
        self.stopped = False
        """The pod is to end."""
        self.begun: float | None = None
        """When it was seen first."""
        self._seen = self._looked = 0.0

    def outcome(self) -> bytes | None:
        """Return its outcome; None while that is not complete."""
        data = read_file(f"{self._out}/{EXIT}", OUTCOME_LIMIT)
        return data if b"\n" in data else None

    def has_begun(self) -> bool:
        """Look whether it has begun."""
        if self.begun is None and os.path.lexists(f"{self._out}/{CLAIM}"):
            self.begun = self._seen = time.monotonic()
        return self.begun is not None

    def is_gone(self) -> bool:
        """Look whether it has ended, with or without an outcome; if the pod ends, also whether it will never begin."""
        if not self.has_begun() or self._signaled:
            return self.stopped
        now = time.monotonic()
        if now - self._looked >= GONE_AFTER / 2:
            self._looked = now
            if any(self._is_runner(pid) for pid in os.listdir("/proc") if pid.isdecimal()):
                self._seen = now
        return now - self._seen > GONE_AFTER

    def _is_runner(self, pid: str) -> bool:
        """Tell whether a process is it: the containers of a pod see each other's."""
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read(PIECE).split(b"\0")[:4]
        except OSError:
            return False
        programs = [os.path.basename(word) for word in words[:2]]
        return b"air-runner" in programs and os.fsencode(self._out) in words


def deliver(manager: Uplink, folders: Folders) -> None:
    """Deliver what the task leaves, and the outcome after all else."""
    runner = Runner(folders, signaled="AIR_CARRIER_SIGNALED" in os.environ)

    def stop(*_: object) -> None:
        runner.stopped = True

    signal.signal(signal.SIGTERM, stop)
    growing = [Growing(manager, folders, LOG), Growing(manager, folders, QUEUE, QUEUE_LIMIT)]
    pause = QUICK
    while (outcome := runner.outcome()) is None and not runner.is_gone():
        pause = QUICK if sum(one.send() for one in growing) else min(SLOW, 1.2 * pause)
        time.sleep(pause if runner.begun is not None else QUICK)
    outcome = runner.outcome()  # it may have come while its processes were looked for
    if not runner.has_begun():
        return
    for one in growing:
        one.send()
    if result := read_file(f"{folders.out}/{RESULT}", RESULT_LIMIT):
        manager.ask("PUT", "result", result)
    deliver_workspace(manager, folders)
    if outcome is not None:
        # By the files' own times: we may have waited for the manager meanwhile.
        times = {"started_ago": CLAIM, "ended_ago": EXIT}
        ago = {word: max(0.0, time.time() - os.lstat(f"{folders.out}/{name}").st_mtime) for word, name in times.items()}
        manager.ask("PUT", f"outcome?{urllib.parse.urlencode(ago)}", outcome)


def deliver_workspace(manager: Uplink, folders: Folders) -> None:
    """Deliver what the task has changed in the workspace."""
    with open(f"{folders.own}/{SNAPSHOT}", encoding="utf-8") as file:
        before: Snapshot = json.load(file)
    now = snapshot(folders.workspace)
    removed = [path for path in sorted(before, reverse=True) if kind(now.get(path)) != kind(before[path])]
    changed = [path for path in sorted(now) if now[path] != before.get(path)]
    if not removed and not changed:
        return
    with tempfile.TemporaryFile(dir=folders.own) as packed:
        for path in removed:
            add_entry(packed, kind="removed", path=path)
        for path in changed:
            with contextlib.suppress(FileNotFoundError):  # what the task has left running has removed it
                add_file(packed, f"{folders.workspace}/{path}", path)
        add_entry(packed, kind=END)
        packed.flush()

        @contextlib.contextmanager
        def from_start() -> Iterator[BinaryIO]:
            packed.seek(0)
            yield packed

        manager.ask("POST", "workspace", from_start)


def kind(entry: str | None) -> str | None:
    """Return what of a snapshot's entry tells a file from a folder and a link."""
    return entry and entry.partition(" ")[0]


def add_entry(stream: IO[bytes], **entry: object) -> None:
    """Add a line about one path; see `workspace_archive.unpack`."""
    stream.write(json.dumps(entry).encode() + b"\n")


def add_file(stream: IO[bytes], path: str, name: str) -> None:
    """Add a file, a folder or a link. What else there is, such as a socket, cannot be delivered."""
    info = os.lstat(path)
    if stat.S_ISDIR(info.st_mode):
        add_entry(stream, kind="folder", path=name)
    elif stat.S_ISLNK(info.st_mode):
        add_entry(stream, kind="link", path=name, target=os.readlink(path))
    elif stat.S_ISREG(info.st_mode):
        with readable(path, lambda path: open(path, "rb")) as file:
            size = os.fstat(file.fileno()).st_size
            executable = bool(info.st_mode & 0o100)
            add_entry(stream, kind="file", path=name, size=size, changed=info.st_mtime_ns, executable=executable)
            while size > 0:
                part = file.read(min(size, PIECE)) or bytes(min(size, PIECE))  # it has been cut meanwhile
                stream.write(part)
                size -= len(part)


def main(words: list[str], env: Mapping[str, str]) -> int:
    """Do what the first word says; return the exit status."""
    commands = {"fetch": [fetch], "deliver": [deliver], "carry": [fetch, deliver]}.get(" ".join(words))
    if commands is None:
        say("usage: air-carrier fetch|deliver|carry")
        return 2
    try:
        manager, folders = Uplink(env), Folders(env.get("AIR_CARRIER_ROOT", "/air"))
        for command in commands:
            command(manager, folders)
    except AnswerError as error:
        say(f"the manager refuses ({error.status}): {error}")
        return LOST_CLAIM if error.status == CONFLICT else CANNOT
    except (OSError, KeyError, ValueError) as error:
        say(f"{type(error).__name__}: {error}")
        return CANNOT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
