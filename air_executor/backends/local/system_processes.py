"""Chooses how the local backend watches processes on this system."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from air_executor.backends.local.linux_processes import LinuxProcesses
from air_executor.backends.local.processes import Processes


def system_processes() -> Processes:
    """Return what fits this system: pidfd and `/proc` if the kernel has them, else `psutil`."""
    children = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
    if sys.platform == "linux" and hasattr(signal, "pidfd_send_signal") and os.access(children, os.R_OK):
        with contextlib.suppress(OSError):  # a kernel before 5.3, or a sandbox without pidfd
            os.close(os.pidfd_open(os.getpid()))
            return LinuxProcesses(children)
    from air_executor.backends.local.psutil_processes import PsutilProcesses  # noqa: PLC0415 - slow, and not on Linux

    return PsutilProcesses()
