"""What others make and we use is named by digest or commit: a tag can be moved to other contents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}\}?$")
_COMMIT = re.compile(r"@[0-9a-f]{40}$")
_OURS = "air-executor-"


@pytest.fixture
def workflows() -> Path:
    """The folder of the workflows."""
    folder = ROOT / ".github" / "workflows"
    if not folder.is_dir():
        pytest.skip("no workflows beside these tests")
    return folder


def words_after(path: Path, pattern: str) -> list[str]:
    """Return the first word after each match."""
    return re.findall(rf"^\s*(?:- )?{pattern}(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_base_images() -> None:
    """Every stage starts from the build argument or from another stage."""
    path = ROOT / "runner_image" / "Dockerfile"
    stages = re.findall(r"^FROM \S+ AS (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(words_after(path, "FROM ")) <= {"${PYTHON_IMAGE}", *stages}


@pytest.mark.parametrize("name", ["docker-compose.yaml", "examples/compose/proxy.yaml"])
def test_images_of_services(name: str) -> None:
    """Those that are not built here."""
    images = [image for image in words_after(ROOT / name, "image: ") if not image.startswith(_OURS)]
    assert images
    assert [image for image in images if not _DIGEST.search(image)] == []


def test_images_that_are_released(workflows: Path) -> None:
    """They are built from a digest."""
    (image,) = words_after(workflows / "release.yml", "PYTHON_IMAGE: ")
    assert _DIGEST.search(image)


def test_actions(workflows: Path) -> None:
    """Those of other repositories."""
    actions = [action for path in workflows.glob("*.yml") for action in words_after(path, "uses: ")]
    assert [action for action in actions if not action.startswith("./") and not _COMMIT.search(action)] == []
