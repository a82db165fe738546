"""Who may do what over HTTP: tokens, roles, and the lines of the audit log.

The command line writes tokens, the server reads them. A token itself is stored nowhere: only its hash is.
"""

# No `from __future__ import annotations`: `parsing` reads the annotations as they stand.

from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, get_args

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.record import Record

Role = Literal["viewer", "submitter", "operator", "admin"]
"""Each may do what those before it may."""
ROLES: Final[tuple[Role, ...]] = get_args(Role)

VIEWER: Final = "viewer"
"""Reads."""
SUBMITTER: Final = "submitter"
"""Submits jobs, and changes its own."""
OPERATOR: Final = "operator"
"""Changes all jobs and schedules, and answers what tasks ask."""
ADMIN: Final = "admin"
"""Confirms that runners are gone, and reads the audit log."""

MAX_TOKENS = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request."""

    name: str
    """Name of the token; also the `owner` of what it submits."""
    role: Role

    def may(self, role: Role) -> bool:
        """Tell whether it has this role, or one that may do more."""
        return ROLES.index(self.role) >= ROLES.index(role)


ANONYMOUS = Caller("anonymous", VIEWER)
"""Whoever is on this machine and sends no token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord(Record):
    """One token, without the token itself."""

    name: t.Id
    role: Annotated[Role, *t.one_of(*ROLES)]
    sha256: Annotated[str, t.Strict("^[0-9a-f]{64}$"), t.Accepts("64 hexadecimal digits")]
    """Of the token: it has 256 random bits, so no slower hash is needed."""
    created_at: t.Time
    expires_at: t.Time | None = None
    """None: never."""


@dataclass(slots=True, kw_only=True)
class TokensFile(Record):
    """`tokens.json`: the tokens of a state directory."""

    format: Literal[1] = 1
    tokens: Annotated[list[TokenRecord], MaxLen(MAX_TOKENS)] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine(Record):
    """A line of the audit log: a change that somebody asks for over HTTP, written before it takes effect."""

    at: t.Time
    request: t.Word
    """Random id of the HTTP request."""
    who: t.Word
    role: Annotated[Role, *t.one_of(*ROLES)]
    origin: t.Word
    """Address of the client."""
    action: t.Word
    job: t.Word | None = None
    """Job or name that it is about."""
    task: t.Word | None = None
    refused: t.Text | None = None
    """Of a second line of the request: why nothing came of it."""
