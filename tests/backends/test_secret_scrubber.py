"""No value of a secret gets into a message, however the platform quotes it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.backends.container.secret_scrubber import HIDDEN, SHORTEST, SecretScrubber


def scrubbed(text: str, **secrets: str) -> str:
    """Return a text as a scrubber that knows these secrets leaves it."""
    scrubber = SecretScrubber()
    scrubber.learn(secrets)
    return scrubber.scrub(text)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('variable can\'t contain null(\\x00): "KEY=RETVALUE\\x00x"', 'variable can\'t contain null(\\x00): "KEY=***"'),
        ("bad RETVALUE", "bad ***"),
        ("nothing of it", "nothing of it"),
        ("KEY=abc", "KEY=***"),
    ],
)
def test_what_an_engine_says(text: str, left: str) -> None:
    """Quoted, escaped, or in words of its own."""
    assert scrubbed(text, KEY="RETVALUE\0x") == left


def test_a_short_value_goes_where_its_name_is() -> None:
    """Elsewhere it would take ordinary words to pieces."""
    assert scrubbed("KEY=on is on", KEY="on") == f"KEY={HIDDEN} is on"


def test_each_line_of_a_key_goes() -> None:
    """A message joins lines and cuts them anywhere."""
    key = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\nabcdEFGH\n-----END KEY-----\n"
    left = scrubbed(f"invalid: {' '.join(key.split())} and {json.dumps(key)}", KEY=key)
    assert not any(word in left for word in ("MIIE", "abcd", "BEGIN"))


@given(st.text(min_size=SHORTEST), st.text(), st.text())
def test_no_value_survives(value: str, before: str, after: str) -> None:
    """Whatever surrounds it."""
    for form in (value, json.dumps(value)):
        left = scrubbed(before + form + after, KEY=value)
        assert value not in left.replace(HIDDEN, "") or value in before + after or value in HIDDEN
