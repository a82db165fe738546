"""The limits of cgroups in a kernel of its own, for this machine's may have them in version 1 or belong to others.

User-mode Linux is a kernel that runs as a process: it mounts this machine's files, and all controllers are its own.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

KERNEL = "linux.uml"
INIT = """#!/bin/sh
export PATH={path} HOME=/ PYTHONPATH={pythonpath} PYTHONDONTWRITEBYTECODE=1 TMPDIR=/run/tmp NO_COLOR=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir /run/tmp
cd {folder}
{python} -m pytest -q -p no:cacheprovider --timeout 300 tests/backends/test_cgroups.py
echo "pytest exits with $?"
echo o >/proc/sysrq-trigger
sleep 60
"""


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_limits_hold_where_all_controllers_are_delegated(tmp_path: Path) -> None:
    """All tests of cgroups pass there, and none of those that need a controller is skipped."""
    kernel = shutil.which(KERNEL)
    if kernel is None or os.geteuid() != 0:
        pytest.skip(f"needs root and {KERNEL}; on Debian: apt-get install user-mode-linux")
    init = tmp_path / "init.sh"
    words = {
        "path": os.environ["PATH"],
        "pythonpath": os.pathsep.join(path for path in sys.path if path),
        "folder": os.getcwd(),
        "python": sys.executable,
    }
    init.write_text(INIT.format(**{name: shlex.quote(word) for name, word in words.items()}))
    init.chmod(0o755)
    booted = subprocess.run(
        [kernel, "mem=768M", "rootfstype=hostfs", "rw", "quiet", f"init={init}", "con=null", "con0=null,fd:1"],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        timeout=800,
    )
    text = booted.stdout.decode(errors="replace")
    assert "pytest exits with 0" in text, text
    assert "is not delegated" not in text, text
