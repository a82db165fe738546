"""The dashboards that are shipped: made from their source, of metrics that exist, in the form that Grafana reads."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from helm.monitoring.dashboards import DASHBOARDS, files
from tests.lanes import missing
from tests.monitoring.shipped import FOLDER, metrics_in

pytestmark = pytest.mark.monitoring

HERE = Path(__file__).parent
NAMES = [one.name for one in DASHBOARDS]
KINDS = {"stat": "StatPanel", "bargauge": "BarGaugePanel", "timeseries": "TimeSeriesPanel"}


def shipped(name: str) -> dict[str, Any]:
    """Return a dashboard as it is in its file."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def test_files_are_made_from_their_source() -> None:
    """A file that was changed by hand, or not generated again, is reported."""
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert there == files(), "run python -m helm.monitoring.dashboards"


@pytest.mark.parametrize("name", NAMES)
def test_panels_fit(name: str) -> None:
    """No panel lies on another or beyond the edge, and each says how it is to be read."""
    taken: set[tuple[int, int]] = set()
    for panel in shipped(name)["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["description"].endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_metrics_exist(name: str) -> None:
    """A manager has every metric and label that is asked for, and each question is about the chosen installations."""
    for panel in shipped(name)["panels"]:
        for target in panel["targets"]:
            assert metrics_in(target["expr"])
            assert 'job=~"$job"' in target["expr"]


@pytest.fixture(scope="session")
def grafana(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Grafana's types; without npm the test is skipped, and in CI fails."""
    if shutil.which("npm") is None:
        missing("npm is not installed; on Debian: apt-get install npm")
    folder = tmp_path_factory.mktemp("grafana")
    shutil.copy(HERE / "package.json", folder)
    words = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    if done.returncode != 0:
        missing(f"npm cannot get Grafana's types: {done.stderr[-500:]}")
    return folder


def complaints(grafana: Path, dashboard: dict[str, Any]) -> str:
    """Return what Grafana's own types find wrong with a dashboard."""
    plain = {**dashboard, "panels": []}
    lines = [(HERE / "check.ts").read_text(encoding="utf-8")]
    lines.append(f"export const dashboard: Plain<Dashboard> = {json.dumps(plain)};")
    lines += [
        f"export const panel{panel['id']}: {KINDS[panel['type']]} = {json.dumps(panel)};"
        for panel in dashboard["panels"]
    ]
    (grafana / "check.ts").write_text("\n".join(lines), encoding="utf-8")
    flags = "--strict --noEmit --skipLibCheck --target es2022 --module nodenext --moduleResolution nodenext".split()
    words = ["npx", "--no-install", "tsc", *flags, "check.ts"]
    return subprocess.run(words, cwd=grafana, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("name", NAMES)
def test_grafana_knows_every_field(grafana: Path, name: str) -> None:
    """Each key and value is one that Grafana's own types have."""
    assert complaints(grafana, shipped(name)) == ""


def test_a_stranger_would_be_seen(grafana: Path) -> None:
    """A key that Grafana does not know, and a value that it has not, are found."""
    wrong = shipped("cost")
    wrong["panels"][0]["options"]["colourMode"] = "value"
    wrong["panels"][5]["fieldConfig"]["defaults"]["custom"]["drawStyle"] = "lines"
    wrong["refreshes"] = "1s"
    said = complaints(grafana, wrong)
    assert "colourMode" in said
    assert '"lines"' in said
    assert "refreshes" in said
