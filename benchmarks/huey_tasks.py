"""The tasks that huey's consumer runs: each starts one `true`, as ours do. Imported by the consumer, not by us."""

from __future__ import annotations

import os
import subprocess

from huey import SqliteHuey

_PATH = os.environ["BENCH_HUEY"]
huey = SqliteHuey(filename=_PATH, results=False)


@huey.task()  # type: ignore[untyped-decorator]
def run(counted: int) -> None:
    """Run `true`, and leave a byte in the file that tells how many have run (`0`: make the file that tells when)."""
    if not counted:
        with open(f"{_PATH}.begun", "wb"):
            return
    subprocess.run(["true"], check=True)
    with open(f"{_PATH}.done", "ab", buffering=0) as file:
        file.write(b".")
