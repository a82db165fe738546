"""`airflow air-executor doctor`: find mistakes in the set-up of Airflow and Air-Executor before the first task does.

Run it on the hosts of the scheduler, the workers and the triggerer, because it checks what they would use. It prints no
secret.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from airflow.configuration import conf
from airflow.models.connection import Connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from air_executor.airflow.hooks import AirExecutorHook, target_of
from air_executor.airflow.job_target import JobTarget
from air_executor.core.finding import BAD, FINE, WARN, Finding
from air_executor.errors import AirExecutorError, BadInputError
from air_executor.manager.event_check import check_events
from air_executor.store.probe import probe

TESTED = ("2.11", "3.3")
"""Oldest and newest version of Airflow that the tests run with."""
MAX_SKEW = 30.0
"""Largest difference of two clocks in seconds; the Execution API refuses tokens from the future or the past."""
MIN_SECRET = 24
"""Characters; as many has a secret that Airflow makes itself (16 random bytes)."""
API_TIMEOUT = 60.0
"""Seconds; the first answer of an API server takes long."""
_MARKS = {FINE: "✓", WARN: "!", BAD: "✗"}


def doctor(arguments: argparse.Namespace) -> None:
    """Print all findings and exit, with 1 if something is broken."""
    findings = list(examine(arguments.conn_id))
    if arguments.json:
        print(json.dumps([_record(one) for one in findings], indent=2))  # noqa: T201
    else:
        for one in findings:
            print(f"{_MARKS[one.verdict]} {one.name}: {one.text}")  # noqa: T201
            if one.remedy:
                print(f"    {one.remedy}")  # noqa: T201
    sys.exit(any(one.verdict == BAD for one in findings))


def examine(conn_id: str | None = None) -> Iterator[Finding]:
    """Yield the findings of all checks."""
    yield _versions()
    if not version("apache-airflow").startswith("2."):
        yield from _execution_api()
        yield _secret()
        yield from _components()
    yield _log_folder()
    yield from _state_dir(conn_id)


def _versions() -> Finding:
    own = version("apache-airflow")
    text = f"Airflow {own}, Air-Executor {version('air-executor')}, Python {platform.python_version()}"
    minor = tuple(int(part) for part in own.split(".")[:2])
    oldest, newest = (tuple(int(part) for part in one.split(".")) for one in TESTED)
    if minor < oldest:
        return Finding("versions", BAD, text, f"the oldest supported version is Airflow {TESTED[0]}")
    if minor > newest:
        return Finding("versions", WARN, text, f"tested up to Airflow {TESTED[1]}")
    return Finding("versions", FINE, text)


def _execution_api() -> Iterator[Finding]:
    name, key = "execution API", "[core] execution_api_server_url"
    url = _execution_url()
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        yield Finding(name, BAD, f"{key} is no URL: {url!r}", "set it to http://HOST:PORT/execution/ of the API server")
        return
    sent = time.time()
    try:
        with urlopen(f"{url.rstrip('/')}/health", timeout=API_TIMEOUT) as answer:  # noqa: S310 - checked above
            answer.read()
            stamp = answer.headers.get("Date")
    except HTTPError as error:
        yield Finding(
            name,
            BAD,
            f"{url} answers {error.code}, so it is not the Execution API",
            f"set {key} to an address that ends with /execution/",
        )
        return
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        yield Finding(
            name, BAD, f"{url} cannot be reached: {reason}", f"start `airflow api-server`, or set {key} to its address"
        )
        return
    took = time.time() - sent
    limit = conf.getfloat("workers", "execution_api_timeout", fallback=5.0)
    if took > limit:
        text = f"{url} answers after {took:.0f} s: tasks wait {limit:g} s for it"
        yield Finding(
            name, WARN, text, "check again if it was just started; else give it more workers or a faster host"
        )
    else:
        yield Finding(name, FINE, f"{url} answers")
    yield _clock(stamp, sent)


def _execution_url() -> str:
    """Return the address that tasks use; Airflow's default has a fixed port, whatever the API server uses."""
    base = conf.get("api", "base_url", fallback="/")
    default = f"{f'http://localhost:8080{base}' if base.startswith('/') else base}".rstrip("/")
    return str(conf.get("core", "execution_api_server_url", fallback=f"{default}/execution/"))


def _clock(stamp: str | None, sent: float) -> Finding:
    if stamp is None:
        return Finding("API clock", WARN, "the API server sends no date, so clocks cannot be compared")
    skew = parsedate_to_datetime(stamp).timestamp() - sent
    if abs(skew) > MAX_SKEW:
        ahead = "ahead of" if skew < 0 else "behind"
        text = f"this host is {abs(skew):.0f} s {ahead} the API server"
        return Finding("API clock", BAD, text, "set both clocks, such as by NTP; tokens are refused otherwise")
    return Finding("API clock", FINE, f"within {MAX_SKEW:.0f} s of the API server's")


def _secret() -> Finding:
    name, key = "secret", "[api_auth] jwt_secret"
    if conf.get("api_auth", "jwt_private_key_path", fallback="") or conf.get(
        "api_auth", "trusted_jwks_url", fallback=""
    ):
        return Finding(name, FINE, "tokens are signed with a key pair")
    secret = conf.get("api_auth", "jwt_secret", fallback="")
    if not _is_set("api_auth", "jwt_secret"):
        text = f"{key} is not set: each component makes a secret of its own, and refuses the others' tokens"
        return Finding(name, BAD, text, "set the same secret for API server, scheduler and triggerer")
    if len(secret) < MIN_SECRET:
        text = f"{key} has {len(secret)} characters, too easy to guess"
        return Finding(name, WARN, text, "make a new one: openssl rand -base64 64")
    return Finding(name, FINE, f"{key} is set; it must be the same for API server, scheduler and triggerer")


def _is_set(section: str, key: str) -> bool:
    """Tell whether an option is set: in the environment, by a command or secret, or in the configuration file."""
    names = [f"AIRFLOW__{section}__{key}{end}".upper() for end in ("", "_CMD", "_SECRET")]
    if any(os.environ.get(name) for name in names):
        return True
    found: Any = conf.as_dict(display_source=True, display_sensitive=True).get(section, {}).get(key)
    return isinstance(found, tuple) and bool(found[0]) and found[1] != "default"


def _components() -> Iterator[Finding]:
    url = f"{_execution_url().removesuffix('/').removesuffix('/execution')}/api/v2/monitor/health"
    try:
        with urlopen(url, timeout=API_TIMEOUT) as answer:  # noqa: S310 - Airflow's own setting
            health = json.load(answer)
    except (OSError, ValueError) as error:
        text = f"{url} does not say which components are running: {getattr(error, 'reason', error)}"
        yield Finding("components", WARN, text, "see the page Home of Airflow")
        return
    for name, why in (("scheduler", "no task starts"), ("triggerer", "deferred and workerless tasks do not continue")):
        status = (health.get(name) or {}).get("status")
        if status == "healthy":
            yield Finding(name, FINE, "is running")
        else:
            yield Finding(name, BAD, f"is {status or 'not running'}: {why}", f"start `airflow {name}`")


def _log_folder() -> Finding:
    folder = conf.get("logging", "base_log_folder")
    probe_path = f"{folder}/.air-executor-{os.getpid()}"
    try:
        os.makedirs(folder, exist_ok=True)
        with open(probe_path, "x", encoding="ascii"):
            pass
        os.unlink(probe_path)
    except OSError as error:
        text = f"[logging] base_log_folder {folder} cannot be written: {error.strerror}"
        return Finding(
            "log folder",
            BAD,
            text,
            f"let uid {os.geteuid()} write to it; runners of AirExecutor write their logs there",
        )
    return Finding("log folder", FINE, f"{folder} is writable")


def _state_dir(conn_id: str | None) -> Iterator[Finding]:
    try:
        target = _target(conn_id)
    except AirExecutorError as error:
        yield Finding("state directory", BAD, str(error), "correct the connection")
        return
    if os.path.isdir(target.state_dir):
        yield from probe(target.state_dir, {"events": check_events})
    healthy, text = target.check()
    yield Finding("manager", FINE if healthy else BAD, text)


def _target(conn_id: str | None) -> JobTarget:
    """Return the target that a connection names, wherever it is stored, Airflow's database included.

    Raises:
        BadInputError: the connection does not exist or is wrong.
    """
    if conn_id is None:
        return AirExecutorHook().target
    try:
        return target_of(Connection.get_connection_from_secrets(conn_id))
    except AirflowNotFoundException as error:
        raise BadInputError(str(error)) from None


def _record(one: Finding) -> dict[str, str | None]:
    return {"name": one.name, "verdict": one.verdict, "text": one.text, "remedy": one.remedy}
