"""Checks what the local backend can do on this machine, for `air-executor doctor`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from air_executor.backends.local.cgroup_files import NoCgroupsError
from air_executor.backends.local.cgroups import CONTROLLERS, Cgroups, open_cgroups
from air_executor.core.finding import FINE, Finding
from air_executor.runner import native

_DETAILS = "docs/operations.md#cgroups"


def check(state_dir: str) -> Iterator[Finding]:
    """Tell whether runs have cgroups, and what is limited, for a manager that is started as this process was."""
    if native.this_machine() not in native.builds():
        yield Finding("cgroups", FINE, f"none, because the runner is a script; {_WITHOUT}")
        return
    try:
        groups = open_cgroups(f"{state_dir}/doctor-{os.getpid()}")  # closing removes them: not those of anybody else
    except NoCgroupsError as error:
        yield Finding("cgroups", FINE, f"none ({error}); {_WITHOUT}; see {_DETAILS}")
        return
    try:
        yield Finding("cgroups", FINE, _text(groups))
    finally:
        groups.close()


_WITHOUT = "processes are found by group, lock and environment, and `resources` and AIR_LOCAL_PIDS are not enforced"


def _text(groups: Cgroups) -> str:
    kill = "one per run, which ends all of its processes"
    missing = [name for name in CONTROLLERS if name not in groups.controllers]
    if not missing:
        return f"{kill}; `resources` and AIR_LOCAL_PIDS are enforced"
    names = " and ".join((", ".join(missing[:-1]), missing[-1])) if missing[1:] else missing[0]
    return f"{kill}; limits of {names} not enforced, because not delegated; see {_DETAILS}"
