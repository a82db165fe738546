"""The fields of a job and of a task in their normalised form, with the defaults of those that are absent.

The core, the store and the manager read specs as plain dicts (`spec.get("grace", DEFAULT_GRACE)`) and need only this;
`spec.py` has the same fields as users write them, and a test compares the two. Standard library alone, so that `status`
starts without pydantic.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

DEFAULT_GRACE = 10
"""Seconds between TERM and KILL."""
DEFAULT_RETRY_JITTER = 0.1
"""Largest share of a retry's delay that chance adds to it."""
DEFAULT_MAX_RUNNERS = 1
DEFAULT_MAX_TASKS = 10_000
DEFAULT_QUEUE = "default"
DEFAULT_ON_FAILURE = "stop"
DEFAULT_WHEN = "success"

TASK_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "command": None,
        "env": {},
        "secrets": [],
        "image": None,
        "workdir": None,
        "mounts": [],
        "resources": {},
        "network": None,
        "timeout": None,
        "grace": DEFAULT_GRACE,
        "retries": 0,
        "retry_delay": 0,
        "retry_backoff": 1,
        "retry_jitter": DEFAULT_RETRY_JITTER,
        "retry_max_delay": None,
        "delay": None,
        "not_before": None,
        "after": [],
        "when": DEFAULT_WHEN,
        "priority": 0,
        "labels": {},
    }
)
"""Every field of a task but its id. A normalised task holds a field only where it differs from this."""

TASK_FIELDS = frozenset(TASK_DEFAULTS)

JOB_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "max_runners": DEFAULT_MAX_RUNNERS,
        "on_failure": DEFAULT_ON_FAILURE,
        "queue": DEFAULT_QUEUE,
        "priority": 0,
        "after": [],
        "deadline": None,
        "max_tasks": DEFAULT_MAX_TASKS,
        "labels": {},
        "defaults": {},
    }
)
"""Every field of a job but its id and its tasks."""

JOB_FIELDS = frozenset(JOB_DEFAULTS)
JOB_ALWAYS = ("max_runners", "on_failure", "queue")
"""Kept in the normalised form even where they are the default, because readers of a state file look for them."""

MERGED_FIELDS = ("env", "labels")
"""Fields that a task and its job's `defaults` share key by key; any other one is the task's own or the default's."""

RUN_ENVIRONMENT = frozenset(
    {
        "AIR_JOB_ID",
        "AIR_TASK_ID",
        "AIR_RUN_ID",
        "AIR_ATTEMPT",
        "AIR_QUEUE",
        "AIR_RESULT",
        "AIR_INPUTS",
        "AIR_WORKSPACE",
        "AIR_SLOT",
    }
)
"""Variables that every run gets; a task cannot set them itself."""
