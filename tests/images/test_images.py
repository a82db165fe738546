"""The images: both builders make them, and they are what their labels say."""

from __future__ import annotations

import json
from importlib import metadata

import pytest

from air_executor.runner import native
from tests.engine import PYTHON_IMAGE, container, output
from tests.images.rig import TREE, build, docker, hardened, image, require_client

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

TARGETS = ("runner", "manager")


@pytest.mark.parametrize(
    "buildkit", [pytest.param(False, id="classic", marks=pytest.mark.nightly), pytest.param(True, id="buildkit")]
)
@pytest.mark.parametrize("target", TARGETS)
def test_both_builders(target: str, buildkit: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The classic builder and BuildKit make an image that starts."""
    require_client()
    tag = f"air-executor-test-{target}-{'buildkit' if buildkit else 'classic'}"
    build(target, tag, buildkit=buildkit)
    try:
        assert output(container(tag, "-c", "print('here')", entrypoint="python")) == "here"
    finally:
        docker("rmi", tag)


@pytest.mark.parametrize("target", TARGETS)
def test_labels_and_entrypoint(target: str) -> None:
    """Labels by the convention of OCI, the version that is installed, and an entrypoint without a shell around it."""
    config = json.loads(docker("inspect", "--type", "image", image(target)))[0]["Config"]
    prefix = "org.opencontainers.image."
    assert {name for name in config["Labels"] if name.startswith(prefix)} == {
        f"{prefix}{name}" for name in ("title", "description", "version", "revision", "source", "licenses")
    }
    assert config["Labels"][f"{prefix}title"] == f"air-executor-{target}"
    assert config["Labels"][f"{prefix}version"] == metadata.version("air-executor")
    assert config["Labels"][f"{prefix}licenses"] == metadata.metadata("air-executor")["License-Expression"]
    assert config["Entrypoint"][0] in {"air-runner", "air-entrypoint"}
    assert config["User"] == ("65532:65532" if target == "runner" else "")
    assert config.get("Healthcheck") is None


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_in_it_lets_anybody_become_root(target: str) -> None:
    """No file of the image runs as somebody else."""
    find = ("/", "-xdev", "-type", "f", "-perm", "/6000")
    assert output(container(image(target), *find, entrypoint="find", user="0")) == ""


@pytest.mark.parametrize("target", TARGETS)
def test_the_standard_library_is_compiled(target: str) -> None:
    """On a read-only root each start would compile it again."""
    script = "import importlib.util as u, json, os; print(os.path.exists(u.cache_from_source(json.__file__)))"
    assert output(container(image(target), "-c", script, entrypoint="python", read_only=True)) == "True"


def test_the_runner_image_has_the_runner_and_the_api() -> None:
    """It runs a task by itself, as nobody in particular, and Python finds the in-task API."""
    task = "import air_executor, os; print(os.getuid(), air_executor.__file__)"
    script = f"out=/tmp/out; mkdir $out; exec air-runner $out /tmp - 1 container python -c '{task}'"
    uid, place = output(hardened("runner", "-c", script, entrypoint="sh", cap_add=[])).split()
    assert uid == "65532"
    assert place.endswith("/site-packages/air_executor.py")


def test_the_runner_image_has_the_native_runner_where_the_tree_has_one() -> None:
    """A release's tree has; in any other one the script serves, under the same names."""
    builds = native.builds() if (TREE / "air_executor/runner" / str(native.this_machine())).is_dir() else {}
    head = output(hardened("runner", "-c", "head -c 4 /usr/local/bin/air-runner | tail -c 3", entrypoint="sh"))
    assert (head == "ELF") == (native.this_machine() in builds)
    assert "usage" in output(hardened("runner", "-c", "air-queue 2>&1 || true", entrypoint="sh"))


def test_the_runner_image_is_small() -> None:
    """It adds the compiled standard library to its base, and next to nothing else."""
    sizes = {name: int(docker("inspect", "--format", "{{.Size}}", name)) for name in (image("runner"), PYTHON_IMAGE)}
    assert sizes[image("runner")] - sizes[PYTHON_IMAGE] < 40e6


def test_no_feature_of_one_builder_alone() -> None:
    """The Dockerfile asks for no frontend to be downloaded, and for no mount of BuildKit's."""
    text = (TREE / "runner_image/Dockerfile").read_text()
    assert "syntax=" not in text
    assert "--mount" not in text
