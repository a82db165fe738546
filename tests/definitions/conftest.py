"""The program and its client, as in the tests of the command line."""

from __future__ import annotations

from tests.cli.conftest import air, client, project, start

__all__ = ["air", "client", "project", "start"]
