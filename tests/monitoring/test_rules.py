"""The alerts that are shipped: each fires when it should, keeps quiet otherwise, and says what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.monitoring.shipped import DOCS, RULES, metrics_in
from tests.prometheus import require

pytestmark = pytest.mark.monitoring

HERE = Path(__file__).parent


def load(path: Path) -> Any:  # noqa: ANN401 - YAML
    """Return a file's content."""
    return YAML(typ="safe", pure=True).load(path)


ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in load(RULES)["groups"][0]["rules"]}


def promtool(*words: str) -> None:
    """Run `promtool` and fail with what it says if it is not satisfied."""
    done = subprocess.run([require("promtool"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_them() -> None:
    """The file is what Prometheus reads, templates included."""
    promtool("check", "rules", str(RULES))


def test_they_fire_and_keep_quiet(tmp_path: Path) -> None:
    """Each on the series that it is for, with its summary filled in, and on nothing like them."""
    cases = load(HERE / "rules_test.yaml")
    fired = set()
    for case in cases["tests"]:
        for check in case["alert_rule_test"]:
            for one in check.get("exp_alerts", ()):
                fired.add(check["alertname"])
                about = ALERTS[check["alertname"]]["annotations"]["description"]
                one["exp_annotations"] = {"summary": one.pop("summary"), "description": about}
    assert fired == ALERTS.keys()
    YAML(typ="safe", pure=True).dump({"rule_files": [str(RULES)], **cases}, tmp_path / "cases.yaml")
    promtool("test", "rules", str(tmp_path / "cases.yaml"))


@pytest.mark.parametrize("name", ALERTS)
def test_each_is_explained(name: str) -> None:
    """The documentation has a section of its own for it."""
    assert re.search(rf"^### {name}$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert ALERTS[name]["labels"]["severity"] in {"warning", "critical"}


@pytest.mark.parametrize("name", ALERTS)
def test_its_metrics_exist(name: str) -> None:
    """A manager has every metric and label that it asks for."""
    assert metrics_in(ALERTS[name]["expr"])
