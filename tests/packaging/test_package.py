"""What is installed is complete: `make test` runs this against the built wheel, away from the checkout."""

from __future__ import annotations

from importlib import metadata, resources

from packaging.requirements import Requirement

from air_executor.runner import native
from tests.runner.rig import require_native


def test_package_data_is_there() -> None:
    """The runner's script and sources and the marker for type checkers are installed with the package."""
    package = resources.files("air_executor")
    assert (package / "runner/air-runner").read_text(encoding="utf-8").startswith("#!/bin/sh\n")
    assert (package / "py.typed").is_file()
    for name in (*native.SOURCES, "air-helper"):
        assert (package / "runner" / name).is_file()


def test_the_native_runner_is_there() -> None:
    """Where there is a compiler for it, the build of the wheel has used it."""
    require_native()
    assert native.this_machine() in native.builds()


def test_the_command_is_declared() -> None:
    """Installing puts `air-executor` on the path, and what it names can be imported."""
    (script,) = metadata.distribution("air-executor").entry_points.select(group="console_scripts")
    assert script.name == "air-executor"
    assert callable(script.load())


def test_dependencies_have_floors_and_caps() -> None:
    """A new major version of a library reaches users only after somebody has tried it."""
    requirements = [Requirement(line) for line in metadata.requires("air-executor") or []]
    ours = ('extra == "dev"', 'extra == "release"')
    for_users = [one for one in requirements if not str(one.marker).endswith(ours)]
    assert for_users
    for requirement in for_users:
        assert {part.operator for part in requirement.specifier} == {">=", "<"}, str(requirement)
