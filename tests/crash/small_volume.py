"""The manager's volume in a trial whose disk fills up: a tmpfs over the state directory. Needs the right to mount."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

_BALLAST = "crash-ballast"
_CHUNK = 1 << 16


class SmallVolume:
    """One volume; where it cannot be mounted there is none, and nothing of this does anything."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        os.makedirs(folder, exist_ok=True)
        words = ["mount", "-t", "tmpfs", "-o", "size=48m", "air-crash", folder]
        able = sys.platform == "linux" and os.geteuid() == 0
        self.mounted = able and subprocess.run(words, check=False, capture_output=True).returncode == 0

    def fill(self) -> bool:
        """Leave no byte free, and tell whether there is none."""
        if not self.mounted:
            return False
        with open(f"{self._folder}/{_BALLAST}", "ab", buffering=0) as file:
            for size in (_CHUNK, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass
        return True

    def relent(self) -> None:
        """Give the space back."""
        if os.path.exists(f"{self._folder}/{_BALLAST}"):
            os.unlink(f"{self._folder}/{_BALLAST}")

    def close(self) -> None:
        """Unmount it, and leave its files in its place, for whoever looks at the trial afterwards."""
        if not self.mounted:
            return
        self.relent()
        kept = tempfile.mkdtemp(dir=os.path.dirname(self._folder))
        shutil.copytree(self._folder, kept, symlinks=True, dirs_exist_ok=True)
        subprocess.run(["umount", "--lazy", self._folder], check=True)
        os.rmdir(self._folder)
        os.rename(kept, self._folder)
        self.mounted = False
