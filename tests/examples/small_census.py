"""A census of little: the same job and the same script, for a library of a few packages."""

from __future__ import annotations

import re
import shutil
import sysconfig
from pathlib import Path

STDLIB = Path(sysconfig.get_paths()["stdlib"])


def shrink(project: Path) -> Path:
    """Let the census of a project count a part of the standard library; return the folder of that.

    What is too big for one task is as small, so that tasks are split.
    """
    part = project / "stdlib"
    for package in ("email", "json", "logging"):
        shutil.copytree(STDLIB / package, part / package, ignore=shutil.ignore_patterns("__pycache__"))
    for module in ("ast.py", "bisect.py"):
        shutil.copy(STDLIB / module, part)
    script = project / "examples/census.py"
    text = script.read_text()
    for name, value in (("STDLIB", 'Path("stdlib")'), ("TOO_BIG", "300_000")):
        text, changes = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
        assert changes == 1
    script.write_text(text)
    return part
