"""Links and named files exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, inline, links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    """Each relative link has an existing file, and a heading in it."""
    for target in links(page):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_that_are_named_exist(page: Path) -> None:
    """Each path below examples/ in a page exists."""
    named = [word for text in inline(page) for word in text.split() if word.startswith("examples/")]
    assert [name for name in named if not (ROOT / name).exists()] == []
