"""Managers as processes, and what they say."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

PATIENCE = 240.0
Start = Callable[..., "subprocess.Popen[bytes]"]


def said(folder: Path, name: str) -> str:
    """Return what a manager said."""
    return (folder / f"{name}.log").read_text(encoding="utf-8")


def says(folder: Path, name: str, words: str) -> bool:
    """Tell whether a manager has said this; fails if it has left with an error instead."""
    text = said(folder, name)
    assert "error:" not in text, text
    return words in text
