"""Sends one message to one URL: a webhook with the standard library, everything else through Apprise.

Runs in threads of the notifier, and in `air-executor notify`. No error says anything of the URL, which holds secrets.
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, unquote, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pydantic import SecretStr

from air_executor.core.notices import FAILURE, LATE, Message
from air_executor.errors import AirExecutorError
from air_executor.notify.targets import WEBHOOKS, check_url

TIMEOUT = 10.0
"""Seconds that a webhook may take to connect, and for each part of its answer."""


class SendError(AirExecutorError):
    """A message was not delivered; the text says why without the URL."""


def send(url: SecretStr, message: Message) -> None:
    """Send a message.

    Raises:
        SendError: it was not delivered, or whether it was is unknown.
        BadInputError: the URL is wrong.
    """
    parts = check_url(url)
    if parts.scheme in WEBHOOKS:
        _post(parts, message)
    else:
        _send_by_apprise(url, parts.scheme, message)


class _StaysHere(HTTPRedirectHandler):
    """Follows no redirect: what is told is for the target alone."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Leave the redirect as the error that it is here."""
        return


def _post(parts: SplitResult, message: Message) -> None:
    body = {"key": message.key, "title": message.title, "text": message.text, "log": message.log, **message.facts}
    headers = {"Content-Type": "application/json", "User-Agent": "air-executor", "Idempotency-Key": message.key}
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
    data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    try:
        request = Request(bare, data, headers, method="POST")  # noqa: S310 - `check_url` has seen the scheme
        with build_opener(_StaysHere).open(request, timeout=TIMEOUT):
            return
    except HTTPError as error:
        error.close()
        what = f"the webhook answered {error.code}"
    except URLError as error:
        what = f"the webhook cannot be reached: {_words(error.reason)}"
    except OSError as error:
        what = f"the webhook cannot be reached: {_words(error)}"
    except (http.client.HTTPException, ValueError) as error:
        what = f"the webhook cannot be asked: {type(error).__name__}"
    raise SendError(what)


def _words(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return f"no answer within {TIMEOUT:g}s"
    words = reason.strerror if isinstance(reason, OSError) else None
    return words or type(reason).__name__


def _send_by_apprise(url: SecretStr, scheme: str, message: Message) -> None:
    import apprise  # noqa: PLC0415 - an extra, and slow to import

    logging.getLogger("apprise").disabled = True  # it names hosts and users
    asset = apprise.AppriseAsset(app_id="Air-Executor", app_desc="Air-Executor", http_redirects=False)
    sender = apprise.Apprise(asset=asset)
    if not sender.add(url.get_secret_value()):
        msg = f"Apprise does not take this {scheme}:// URL"
        raise SendError(msg)
    event = message.facts.get("event")
    kind = {FAILURE: apprise.NotifyType.FAILURE, LATE: apprise.NotifyType.WARNING}.get(
        str(event), apprise.NotifyType.SUCCESS
    )
    parts = [message.text, *([message.log] if message.log else []), f"id: {message.key}"]
    text = "\n\n".join(parts)
    if not sender.notify(text, title=message.title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT):
        msg = f"Apprise could not deliver it by {scheme}; `air-executor notify` tries a target alone"
        raise SendError(msg)
