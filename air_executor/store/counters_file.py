"""`counters.json`: what the managers of a state directory have counted, while no journal holds it.

A starting manager writes it before the old journals go, a manager that stops before its own goes.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from air_executor.errors import CorruptFileError
from air_executor.model.records import CountersRecord
from air_executor.store import codec, files
from air_executor.store.layout import Layout

MAX_FILE = 16 * 1024 * 1024


def load(layout: Layout) -> CountersRecord | None:
    """Return what the file says; None if there is none.

    Raises:
        CorruptFileError: it is unreadable.
        StoreError: the volume refused.
    """
    found = files.read(layout.counters, MAX_FILE)
    if found is None:
        return None
    record = codec.read_small(CountersRecord, found[0])
    if record is None:
        msg = f"{layout.counters}: no readable counters"
        raise CorruptFileError(msg)
    return record


def save(layout: Layout, record: CountersRecord, staging: str) -> None:
    """Write the file.

    Raises:
        StoreError: the volume refused; the old file is untouched.
    """
    files.replace_own(layout.counters, (json.dumps(asdict(record), indent=2) + "\n").encode(), staging)
