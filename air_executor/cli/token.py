"""`air-executor token`: tokens for the web page and the HTTP API."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.flags import check_action, read_duration
from air_executor.cli.session import Session, session_of
from air_executor.cli.terminal import note, print_json, say
from air_executor.errors import BadInputError

if TYPE_CHECKING:
    from air_executor.store.tokens import Tokens

NEVER = "never"
_ACTIONS = ("create", "list", "revoke", "show")


def token(  # noqa: PLR0917 - a command has its options as arguments
    ctx: typer.Context,
    action: Annotated[str | None, typer.Argument(metavar="ACTION")] = None,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME…")] = None,
    role: Annotated[
        str, typer.Option(metavar="ROLE", help="Role: viewer, submitter, operator or admin; for `create`.")
    ] = "viewer",
    expires: Annotated[
        str, typer.Option(metavar="DURATION", help="Time until it expires (30d), or never; for `create`.")
    ] = "90d",
    file: Annotated[str | None, typer.Option(metavar="FILE", help="File of tokens. Default: AIR_TOKENS_FILE.")] = None,
) -> None:
    """Create, list and revoke tokens for the web page and the HTTP API.

    Actions: create NAME, list, revoke NAME…; show prints the token that a manager created at its first start
    (AIR_FIRST_TOKEN). A running manager follows at once.
    """
    session = session_of(ctx)
    given = names or []
    action = check_action("token", action, _ACTIONS)
    if action == "show":
        _show(session, _tokens(session, file))
    elif action == "list":
        _list(session, _tokens(session, file))
    elif not given or (action == "create" and len(given) > 1):
        msg = f"token {action}: give the name of {'one' if action == 'create' else 'a'} token"
        raise BadInputError(msg)
    elif action == "create":
        _create(session, _tokens(session, file), given[0], role, expires)
    else:
        _revoke(session, _tokens(session, file), given)


def _tokens(session: Session, file: str | None) -> Tokens:
    from air_executor.store.tokens import Tokens as Found  # noqa: PLC0415 - only for this command

    if file is not None:
        return Found(os.path.abspath(file))
    client = session.directory("token")
    settings = session.settings()
    if settings.tokens_file is not None:
        return Found(str(settings.tokens_file))
    client.jobs.prepare()  # with a .gitignore: tokens are not for git
    return Found(client.layout.tokens)


def _create(session: Session, tokens: Tokens, name: str, role: str, expires: str) -> None:
    from air_executor.model.callers import ROLES  # noqa: PLC0415 - only for this command
    from air_executor.model.names import check_id  # noqa: PLC0415
    from air_executor.model.times import to_text  # noqa: PLC0415

    check_id(name, "token")
    if role not in ROLES:
        msg = f"--role: must be {', '.join(ROLES[:-1])} or {ROLES[-1]}, got {role!r}"
        raise BadInputError(msg)
    now = round(time.time(), 3)
    until = None if expires == NEVER else now + _seconds(expires)
    made = tokens.create(name, role, now=now, expires_at=until)
    if session.json:
        expires_at = None if until is None else to_text(until)
        print_json({"name": name, "role": role, "expires_at": expires_at, "token": made})
        return
    say(made)
    end = "never expires" if until is None else f"expires at {to_text(until)}"
    note(f"token {name} has the role {role} and {end}; keep it now, it is not shown again")


def _show(session: Session, tokens: Tokens) -> None:
    from air_executor.errors import NotFoundError  # noqa: PLC0415 - only for this command
    from air_executor.store.tokens import first_token  # noqa: PLC0415

    found = first_token(session.directory("token").layout.first_token)
    caller = None if found is None else tokens.caller(found, time.time())
    if found is None or caller is None:
        msg = "there is no token of a first start; create one: `air-executor token create NAME --role operator`"
        raise NotFoundError(msg)
    if session.json:
        print_json({"name": caller.name, "role": caller.role, "token": found})
    else:
        say(found)


def _seconds(text: str) -> float:
    seconds = read_duration("--expires", text)
    if seconds <= 0:
        msg = f"--expires: must be more than 0, got {text!r}"
        raise BadInputError(msg)
    return seconds


def _list(session: Session, tokens: Tokens) -> None:
    from air_executor.cli.table import Cell, print_lines, table, terminal_width  # noqa: PLC0415
    from air_executor.model.times import to_text  # noqa: PLC0415

    found = tokens.load()
    now = time.time()
    if session.json:
        records = [
            {
                "name": one.name,
                "role": one.role,
                "created_at": to_text(one.created_at),
                "expires_at": None if one.expires_at is None else to_text(one.expires_at),
                "expired": one.expires_at is not None and one.expires_at <= now,
            }
            for one in found
        ]
        print_json({"tokens": records})
        return
    if not found:
        say("no tokens; create one: `air-executor token create NAME --role submitter`")
        return
    rows = []
    for one in found:
        expired = one.expires_at is not None and one.expires_at <= now
        end = NEVER if one.expires_at is None else "expired" if expired else to_text(one.expires_at)
        rows.append([Cell(one.name, "bold"), Cell(one.role), Cell(to_text(one.created_at)), Cell(end)])
    print_lines(table(("token", "role", "created", "expires"), rows, terminal_width()))


def _revoke(session: Session, tokens: Tokens, names: Sequence[str]) -> None:
    for name in names:
        tokens.revoke(name)
        if not session.json:
            say(f"{name}: revoked")
    if session.json:
        print_json({"revoked": list(names)})
