"""Hands a task's environment through the shell that runs `air-runner`, so that the task gets it byte for byte.

A shell drops names that are no identifiers, and rewrites some of its own. The local backend calls this when it spawns a
runner that is a shell script; a native runner needs none of it. The other half is in `air-runner` (see its head) and in
`exact_exec.py`. Knows nothing of slots or jobs.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping

_IDENTIFIER = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_RESTORABLE = {b"PWD", b"OLDPWD", b"SHLVL", b"_"}
"""Rewritten by shells, but any shell can set them again; nearly every environment has them."""
_LOADER = (b"LD_", b"DYLD_")
"""Would act on the shell itself."""
_OWN = {
    *(b"IFS", b"PPID", b"OPTIND", b"LINENO", b"RANDOM", b"SRANDOM", b"SECONDS", b"EPOCHSECONDS", b"EPOCHREALTIME"),
    *(b"HISTCMD", b"DIRSTACK", b"FUNCNAME", b"FUNCNEST", b"GROUPS", b"PIPESTATUS", b"SHELLOPTS", b"COMP_WORDBREAKS"),
}
"""Some shell gives these a meaning or a value of its own, and not all can set them again."""
_EXACT_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "exact_exec.py")
_ENV_PROGRAMS = ("/usr/bin/env", "/bin/env")


def through_shell(environment: Mapping[bytes, bytes], reset: bytes | None) -> dict[bytes, bytes]:
    """Return the environment for a shell whose task shall have `environment`.

    `reset` is the program that `find_env` returned. Without one, Python starts the task; it also does where a name is
    one that no shell can hold, which costs about 10 ms.

    Raises:
        ValueError: a name is empty or holds a `=`.
    """
    if wrong := [name for name in environment if not name or b"=" in name]:
        msg = f"{wrong[0]!r} is no name for an environment variable"
        raise ValueError(msg)
    if reset is None or not all(map(_can_pass, environment)):
        others = [(name, value) for name, value in environment.items() if not name.startswith(b"AIR_")]
        result = {name: value for name, value in environment.items() if name.startswith(b"AIR_")}
        result |= {b"_air_given_%d" % number: b"%b=%b" % item for number, item in enumerate(others)}
        result |= {b"_air_exact": os.fsencode(sys.executable), b"_air_exact_file": os.fsencode(_EXACT_FILE)}
        return {**result, b"_air_env": b"", b"PATH": environment.get(b"PATH", os.fsencode(os.defpath))}
    restored = [name for name in environment if name in _RESTORABLE or name.startswith(_LOADER)]
    result = {name: value for name, value in environment.items() if name not in restored}
    result |= {b"_air_given_" + name: environment[name] for name in restored}
    return {**result, b"_air_restore": b" ".join(restored), b"_air_env": reset}


def _can_pass(name: bytes) -> bool:
    return bool(_IDENTIFIER.fullmatch(name)) and name not in _OWN and not name.startswith((b"_air_", b"BASH"))


def find_env() -> bytes | None:
    """Return an `env` that can give signals their default action back (GNU, from 8.31 on), or None."""
    for program in _ENV_PROGRAMS:
        try:
            pid = os.posix_spawn(
                program,
                [program, "--default-signal=INT,QUIT", "true"],
                {"PATH": os.defpath},
                file_actions=[(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)],
            )
        except OSError:
            continue
        if os.waitpid(pid, 0)[1] == 0:
            return program.encode()
    return None
