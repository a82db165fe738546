"""The command that starts a manager, as advice has it: inside Docker Compose it is one for the host."""

from __future__ import annotations

import os

from air_executor.store.presence import HOST_NAMESPACE, pid_namespace

COMPOSE = "docker compose up -d"
HERE = "air-executor manager"


def start_command() -> str:
    """Return the command; docker-compose.yaml tells its containers the name of their project."""
    inside = os.environ.get("COMPOSE_PROJECT_NAME") and pid_namespace() != HOST_NAMESPACE
    return COMPOSE if inside else HERE
