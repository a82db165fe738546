"""Which machine this is: managers write it down, so that another one can tell whether they may be alive."""

from __future__ import annotations

import hashlib
import platform

from air_executor.model.names import Host

MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")


def this_host() -> Host:
    """Return this machine's name, the id of its present boot, and what stays across both."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
    except OSError:  # not Linux
        import psutil  # noqa: PLC0415 - the dependency exists only there

        boot = str(int(psutil.boot_time()))
    return Host(platform.node(), boot, _machine())


def _machine() -> str | None:
    """Return an id of this machine's own, derived as machine-id(5) asks: the machine's id itself is confidential."""
    for path in MACHINE_IDS:
        try:
            with open(path, "rb") as file:
                found = file.read(64).strip()
        except OSError:
            continue
        if found and found != b"uninitialized":
            return hashlib.blake2b(b"air-executor", key=found, digest_size=8).hexdigest()
    return None
