"""`air-executor schema`: the JSON Schema of job files, for editors."""

from __future__ import annotations

import typer

from air_executor.cli.terminal import print_json


def schema(ctx: typer.Context) -> None:  # noqa: ARG001 - passed to every command
    """Print the JSON Schema of job files."""
    from air_executor.model.parsing import job_schema  # noqa: PLC0415 - see the module

    print_json(job_schema())
