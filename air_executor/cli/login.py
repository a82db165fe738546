"""`air-executor login`: store the token for a server, so that commands find it there."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from air_executor.cli.session import SERVER, session_of
from air_executor.cli.terminal import note, print_json, say
from air_executor.client import credentials
from air_executor.client.server_client import ServerClient
from air_executor.errors import BadInputError


def login(
    ctx: typer.Context,
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="Address of the server. Default: AIR_SERVER.")
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Remove the stored token.")] = False,
) -> None:
    """Store the token for a manager's server.

    Asks for the token, or reads it from stdin, and checks it. It is stored in the keyring, where the Python library
    keyring is installed, else in a file that only you can read. AIR_TOKEN wins over it.
    """
    session = session_of(ctx)
    server = url or session.server_address
    if server is None:
        msg = f"login: give the address of a server, or set {SERVER}"
        raise BadInputError(msg)
    if forget:
        gone = credentials.forget_token(server, os.environ)
        say(f"{server}: {'token removed' if gone else 'there was no token'}")
        return
    if sys.stdin.isatty():
        import getpass  # noqa: PLC0415 - only here

        typed = getpass.getpass(f"Token for {server}: ")
    else:
        typed = sys.stdin.readline()
    token = credentials.check_token(typed, "the token")
    client = ServerClient(server, token, report=note)
    name, role = client.caller()
    where = credentials.save_token(server, token, os.environ)
    if session.json:
        print_json({"server": client.place, "name": name, "role": role})
        return
    say(f"{client.place}: you are {name}, with the role {role}")
    note(f"the token is stored in {where}; to use the server: export {SERVER}={client.place}")
