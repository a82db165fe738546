"""Removes the values of secrets from what a platform answers: its messages are kept in states, journals and logs.

A platform that refuses a runner quotes what it was given, escaped in its own way and cut anywhere. So not only a whole
value goes, but each of its words too.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping

HIDDEN = "***"
SHORTEST = 4
"""Minimum length of a word that is removed wherever it appears; shorter ones are parts of ordinary words."""
MOST = 10_000
"""Maximum number of values remembered; the oldest ones are forgotten."""
_APART = re.compile(r"[\s\x00-\x1f\x7f\"'\\]+")


class SecretScrubber:
    """Knows the secrets of the runners that one manager has started. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, re.Pattern[str]] = {}
        """By name and value."""

    def learn(self, secrets: Mapping[str, str]) -> None:
        """Remember the values of a runner's secrets, by name."""
        with self._lock:
            for name, value in secrets.items():
                key = f"{name}={value}"
                if key not in self._known:
                    self._known[key] = _pattern(name, value)
            while len(self._known) > MOST:
                del self._known[next(iter(self._known))]

    def scrub(self, text: str) -> str:
        """Return a text without the values."""
        with self._lock:
            known = list(self._known.values())
        for pattern in known:
            text = pattern.sub(HIDDEN, text)
        return text


def _pattern(name: str, value: str) -> re.Pattern[str]:
    forms = sorted(set(_forms(value)), key=len, reverse=True)
    alternatives = [rf"(?<={re.escape(name)}=)[^\s\"]+", *map(re.escape, forms)]
    return re.compile("|".join(alternatives))


def _forms(value: str) -> Iterator[str]:
    """Yield what may appear of a value: itself, as a JSON or Go string, and its words."""
    words = _APART.split(value)
    for form in (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], *words):
        if len(form) >= SHORTEST:
            yield form
