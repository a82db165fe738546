"""Decisions of tasks are tested with a manager in this process, and a platform in memory."""

from tests.manager.conftest import world

__all__ = ["world"]
