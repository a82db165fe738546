"""The chart as tests look at it: what `helm` makes of it, and the supported set-ups."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

CHART = Path(__file__).parents[2] / "helm" / "air-executor"
_FILES = {path.name.removesuffix("-values.yaml"): path for path in (CHART / "ci").glob("*-values.yaml")} | {
    path.stem.removeprefix("values-"): path for path in CHART.glob("values-*.yaml")
}
SETUPS = sorted(_FILES)
RELEASE, NAMESPACE = "rel", "somewhere"
NAME = f"{RELEASE}-air-executor"

Object = dict[str, Any]


def values_of(setup: str) -> list[str]:
    """Return the flags that choose a set-up."""
    return ["--values", str(_FILES[setup])]


def helm(program: str, *words: str) -> str:
    """Run `helm` and return what it prints."""
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def render(program: str, *flags: str, sets: Mapping[str, object] | None = None) -> list[Object]:
    """Return all objects of a release; `sets` are values by their path."""
    return parse(helm(program, *template(*flags, sets=sets)))


def refusal(program: str, sets: Mapping[str, object]) -> str:
    """Return what helm says of values that it must not take."""
    done = subprocess.run([program, *template(sets=sets)], capture_output=True, text=True, check=False)
    assert done.returncode != 0, f"helm took {sets}"
    return done.stderr


def template(*flags: str, sets: Mapping[str, object] | None = None) -> list[str]:
    """Return the words of `helm template`."""
    assigned = [word for path, value in (sets or {}).items() for word in ("--set-json", f"{path}={json.dumps(value)}")]
    return ["template", RELEASE, str(CHART), "--namespace", NAMESPACE, *assigned, *flags]


def parse(text: str) -> list[Object]:
    """Return the objects of a YAML stream."""
    return [found for found in YAML(typ="safe", pure=True).load_all(text) if found]


def pick(objects: list[Object], kind: str, name: str = NAME) -> Object:
    """Return the one object of that kind and name."""
    (found,) = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def kinds(objects: list[Object]) -> list[str]:
    """Return the kinds of the objects, sorted."""
    return sorted(one["kind"] for one in objects)


def pods(objects: list[Object]) -> list[Object]:
    """Return the spec of every pod that the objects make or are."""
    return [
        one["spec"] if one["kind"] == "Pod" else one["spec"]["template"]["spec"]
        for one in objects
        if one["kind"] in {"Pod", "Deployment", "Job", "StatefulSet", "DaemonSet"}
    ]
