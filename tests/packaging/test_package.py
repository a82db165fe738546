"""What is installed is complete: `make test` runs this against the built wheel, away from the checkout."""

from __future__ import annotations

from importlib import metadata, resources

from packaging.requirements import Requirement


def test_package_data_is_there() -> None:
    """The runner script and the marker for type checkers are installed with the package."""
    package = resources.files("air_executor")
    assert (package / "runner/air-runner").read_text(encoding="utf-8").startswith("#!/bin/sh\n")
    assert (package / "py.typed").is_file()


def test_the_command_is_declared() -> None:
    """Installing puts `air-executor` on the path, and what it names can be imported."""
    (script,) = metadata.distribution("air-executor").entry_points.select(group="console_scripts")
    assert script.name == "air-executor"
    assert callable(script.load())


def test_dependencies_have_floors_and_caps() -> None:
    """A new major version of a library reaches users only after somebody has tried it."""
    requirements = [Requirement(line) for line in metadata.requires("air-executor") or []]
    ours = ('extra == "dev"', 'extra == "release"')
    for_users = [requirement for requirement in requirements if str(requirement.marker) not in ours]
    assert for_users
    for requirement in for_users:
        assert {part.operator for part in requirement.specifier} == {">=", "<"}, str(requirement)
