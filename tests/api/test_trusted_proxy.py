"""People whom a reverse proxy has signed in: with the proxy's word they have roles, without it headers mean nothing."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers

from air_executor.errors import BadInputError
from air_executor.web.trusted_proxy import TrustedProxy
from tests.api.conftest import ApiAnswer, ServedApi

SECRET = "of-this-test-and-random-enough"  # noqa: S105
ROLES = {"admins": "admin", "cn=data,dc=example": "submitter", "*": "viewer"}
SETTINGS = {
    "AIR_PROXY_ADDRESSES": "10.42.0.0/16,127.0.0.1",
    "AIR_PROXY_SECRET": SECRET,
    "AIR_PROXY_ROLES": "admins=admin,data=submitter,*=viewer",
    "AIR_PUBLIC_URL": "https://air.example.com/",
}


def basic(password: str, user: str = "anna@example.com") -> str:
    """Return what oauth2-proxy sends as proof."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def proxied(groups: str | None = None, password: str = SECRET, **headers: str) -> dict[str, Any]:
    """Return the headers of a request that oauth2-proxy passes on."""
    sent = {"Authorization": basic(password), "X_Forwarded_User": "anna", "X_Forwarded_Email": "anna@example.com"}
    return sent | ({} if groups is None else {"X_Forwarded_Groups": groups}) | headers


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApi]:
    """A manager that trusts a proxy on this machine."""
    made = ServedApi(tmp_path_factory.mktemp("behind"))
    made.start(**SETTINGS)
    yield made
    made.stop()


def test_groups_give_roles(behind: ServedApi) -> None:
    """The highest role of all groups; everybody signed in has the least."""
    for groups, role in ((None, "viewer"), ("others", "viewer"), ("data", "submitter"), ("data,admins", "admin")):
        found = behind.get("/caller", **proxied(groups), Host="air.example.com")
        assert found.data == {"name": "anna@example.com", "role": role}


def test_what_they_do_is_theirs(behind: ServedApi) -> None:
    """Jobs belong to them and the audit log names them; a submitter does not touch the jobs of a token."""
    job = {"id": "hers", "tasks": [{"command": "true"}]}
    assert behind.ask("POST", "/jobs", job, **proxied()).status == 403
    passed_on: dict[str, Any] = {"X_Forwarded_For": "203.0.113.9, 198.51.100.7"}
    assert behind.ask("POST", "/jobs", job, **proxied("data"), **passed_on).status == 201
    assert behind.ended("hers")["owner"] == "anna@example.com"
    (line,) = [line for line in behind.audit if line["job"] == "hers"]
    assert (line["who"], line["role"], line["action"]) == ("anna@example.com", "submitter", "submit")
    assert line["origin"] == "198.51.100.7", "what the proxy saw; anybody can send what stands before it"
    behind.ask("POST", "/jobs", {**job, "id": "of-a-token"}, role="submitter", **passed_on)
    assert behind.audit[-1]["origin"] == "127.0.0.1", "without the proxy's word it means nothing"
    refused = behind.ask("POST", "/jobs/of-a-token/cancel", {}, **proxied("data"))
    assert refused.status == 403
    assert SECRET not in behind.log
    assert SECRET not in Path(behind.client.layout.audit).read_text()


def test_without_the_secret_headers_mean_nothing(behind: ServedApi) -> None:
    """They are not signed in, whatever they say; a token is still a token, and never another's name."""

    def caller(**headers: str) -> ApiAnswer:
        return behind.get("/caller", **headers)

    assert caller(**proxied("admins", password="guessed")).status == 401  # noqa: S106 - of this test
    without = {name: value for name, value in proxied("admins").items() if name != "Authorization"}
    assert caller(**without).status == 401, "who comes through a proxy of this machine is not local"
    assert behind.ask("POST", "/jobs", {"id": "x", "tasks": [{"command": "true"}]}, **without).status == 401
    mine = caller(**without, Authorization=f"Bearer {behind.tokens['submitter']}")
    assert mine.data == {"name": "submitter", "role": "submitter"}


def test_from_elsewhere_headers_mean_nothing(fresh: ServedApi) -> None:
    """The secret alone is not enough: the connection has to come from the proxy."""
    fresh.start(**{**SETTINGS, "AIR_PROXY_ADDRESSES": "10.42.0.0/16"})
    assert fresh.get("/caller", **proxied("admins")).status == 401


def test_a_foreign_page_changes_nothing(behind: ServedApi) -> None:
    """The proxy adds the session's headers to whatever the browser sends, for other sites too."""
    job = {"id": "forged", "tasks": [{"command": "true"}]}
    evil: list[dict[str, Any]] = [{"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}]
    for given in evil:
        sent = behind.ask("POST", "/jobs", job, **proxied("admins"), **given, Host="air.example.com")
        assert sent.status == 403
    assert behind.get("/caller", **proxied("admins"), Host="evil.example").status == 421


def made(*headers: tuple[str, str]) -> Headers:
    """Return headers as the server has them."""
    return Headers(raw=[(name.encode(), value.encode("latin-1")) for name, value in headers])


@pytest.mark.parametrize(
    "headers",
    [
        [("x-forwarded-user", "anna"), ("x-forwarded-user", "root")],
        [("x-forwarded-user", "anna"), ("x-forwarded-email", "a@b"), ("x-forwarded-email", "c@d")],
        [("x-forwarded-user", "")],
        [("x-forwarded-user", "an na")],
        [("x-forwarded-user", "änna")],
        [("x-forwarded-user", "a" * 300)],
    ],
)
def test_a_name_that_is_none(headers: list[tuple[str, str]]) -> None:
    """Two names, none, or one that could not stand in a log: nobody."""
    assert TrustedProxy(["127.0.0.1/32"], SECRET, ROLES).caller(made(*headers)) is None


def test_names_and_groups() -> None:
    """A name is never that of a token; groups may contain equals signs; nobody is in the group `*`."""
    proxy = TrustedProxy(["127.0.0.1/32"], SECRET, {"cn=data": "submitter", "*": "viewer"})
    plain = proxy.caller(made(("x-forwarded-user", "submitter"), ("x-forwarded-groups", "*")))
    assert (plain.name, plain.role) == ("user:submitter", "viewer") if plain else False
    several = made(("x-forwarded-user", "a"), ("x-forwarded-groups", "x, cn=data"), ("x-forwarded-groups", "y"))
    assert (found := proxy.caller(several)) is not None
    assert found.role == "submitter"
    closed = TrustedProxy(["127.0.0.1/32"], SECRET, {"admins": "admin"})
    assert closed.caller(made(("x-forwarded-user", "a"), ("x-forwarded-groups", "others"))) is None


@pytest.mark.parametrize(
    ("client", "trusted"),
    [("10.42.3.4", "yes"), ("::ffff:10.42.3.4", "yes"), ("10.43.0.1", "no"), ("fe80::1%eth0", "no"), ("", "no")],
)
def test_where_the_proxy_is(client: str, trusted: str) -> None:
    """Its networks, also as IPv6 names them."""
    proxy = TrustedProxy(["10.42.0.0/16"], SECRET, ROLES)
    assert proxy.says(made(("x-forwarded-user", "a")), client, SECRET) is (trusted == "yes")


@pytest.mark.parametrize(
    ("addresses", "secret", "roles"),
    [([], SECRET, ROLES), (["127.0.0.1"], "", ROLES), (["127.0.0.1"], SECRET, {}), (["127.0.0.1"], "short", ROLES)],
)
def test_half_a_proxy_is_refused(addresses: list[str], secret: str, roles: dict[str, str]) -> None:
    """Something is missing, or can be guessed."""
    with pytest.raises(BadInputError, match=r"^proxy"):
        TrustedProxy(addresses, secret, roles)
