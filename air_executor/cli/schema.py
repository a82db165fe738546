"""`air-executor schema`: the JSON Schema of job files, for editors, and the OpenAPI document, for clients."""

from __future__ import annotations

from typing import Annotated

import typer

from air_executor.cli.terminal import print_json


def schema(
    ctx: typer.Context,  # noqa: ARG001 - passed to every command
    api: Annotated[bool, typer.Option("--api", help="The OpenAPI document of the HTTP API instead.")] = False,
) -> None:
    """Print the JSON Schema of job files."""
    if api:
        from air_executor.web.api.api_app import make_routes  # noqa: PLC0415 - see the module

        print_json(make_routes().openapi())
        return
    from air_executor.model.parsing import job_schema  # noqa: PLC0415 - see the module

    print_json(job_schema())
