"""`air-executor notify`: try a target of notifications."""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer

from air_executor.cli.session import session_of
from air_executor.cli.terminal import print_json, say


def notify(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Name of the target: `ops` is AIR_NOTIFY_OPS.")],
) -> None:
    """Send a test notification to a target, and say how that went.

    Uses the secrets directory and the environment of this shell, which may not be those of the manager.
    """
    from air_executor.core.notices import test_message  # noqa: PLC0415 - only for this command
    from air_executor.notify.sending import send  # noqa: PLC0415
    from air_executor.notify.targets import Targets  # noqa: PLC0415

    session = session_of(ctx)
    folder = session.settings().secrets_dir
    url = Targets(None if folder is None else str(folder), os.environ).url(target)
    send(url, test_message(target, time.time()))
    if session.json:
        print_json({"target": target, "delivered": True})
    else:
        say(f"target {target}: delivered")
