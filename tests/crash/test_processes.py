"""What the campaign found in the scan for processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from air_executor.backends.local import proc_reader
from air_executor.backends.local.system_processes import system_processes
from air_executor.errors import BackendUnavailableError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize(("blank", "found"), [(20, True), (10**6, False)])
def test_a_straggler_in_the_middle_of_an_exec_is_not_overlooked(
    blank: int, *, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a process shows neither environment nor command line the scan looks again; in the end it says "unknown"."""
    child = subprocess.Popen(["sleep", "30"], env={**os.environ, "AIR_RUN_ID": "0123abcd-1"}, process_group=0)
    mine = {f"/proc/{child.pid}/environ": blank, f"/proc/{child.pid}/cmdline": blank}
    real = proc_reader.read

    def read(path: str) -> bytes | None:
        mine[path] = mine.get(path, 0) - 1
        return b"" if mine[path] > 0 else real(path)

    monkeypatch.setattr(proc_reader, "read", read)
    monkeypatch.setattr(proc_reader, "EXEC_RETRIES", 50)
    chosen = system_processes()
    try:
        if found:
            assert child.pid in {process.pid for process in chosen.scan("/nowhere/")}
        else:
            with pytest.raises(BackendUnavailableError, match=f"process {child.pid} "):
                chosen.scan("/nowhere/")
    finally:
        chosen.close()
        child.send_signal(signal.SIGKILL)
        child.wait()


def test_what_a_process_left_behind_while_the_list_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the list has ended before it was looked at: its child, too young for the list, is found all the same."""
    parent = subprocess.Popen(["true"])
    parent.wait()
    child = subprocess.Popen(["sleep", "30"], env={**os.environ, "AIR_RUN_ID": "0123abcd-1"})
    real = os.listdir
    lists = [[str(parent.pid), str(os.getpid())]]

    def listdir(path: str) -> list[str]:
        return lists.pop() if path == "/proc" and lists else real(path)

    chosen = system_processes()
    try:
        monkeypatch.setattr(os, "listdir", listdir)
        assert child.pid in {process.pid for process in chosen.scan("/nowhere/")}
    finally:
        monkeypatch.undo()
        chosen.close()
        child.kill()
        child.wait()
