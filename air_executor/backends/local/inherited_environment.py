"""What local tasks inherit from the manager's own environment. Called by `wiring`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping


def inherit(environ: Mapping[str, str], prefix: str, *, without: str) -> dict[str, str]:
    """Return our environment, but for names that begin with `without`, with `python` and `air-executor` on the PATH.

    Those of our own installation, at `prefix`, come first, unless the user works in another one: then `python` is what
    it is in the user's shell.
    """
    inherited = {name: value for name, value in environ.items() if not name.startswith(without)}
    own, path = os.path.dirname(sys.executable), inherited.get("PATH", os.defpath)
    active = [environ[name] for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if environ.get(name)]
    shadowed = any(
        f"{folder}/bin" in path.split(os.pathsep) and os.path.realpath(folder) != os.path.realpath(prefix)
        for folder in active
    )
    if own:
        inherited["PATH"] = f"{path}{os.pathsep}{own}" if shadowed else f"{own}{os.pathsep}{path}"
    if "LC_CTYPE" in inherited and _coerced_locale():
        del inherited["LC_CTYPE"]
    return inherited


def _coerced_locale() -> bool:
    """Tell whether it was Python that set LC_CTYPE, as it does where it starts in the C locale (PEP 538)."""
    try:
        with open("/proc/self/environ", "rb") as file:
            return b"\0LC_CTYPE=" not in b"\0" + file.read()
    except OSError:
        return False
