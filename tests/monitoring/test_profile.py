"""The profile `monitoring` of the compose file: what Compose and Prometheus make of it, without a registry."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.images.rig import TREE, require_client
from tests.prometheus import require

pytestmark = pytest.mark.monitoring

FOLDER = TREE / "helm" / "air-executor" / "monitoring"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """What Compose makes of the file."""
    require_client()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AIR_", "COMPOSE_"))}
    words = ["docker", "compose", "--profile", "monitoring", "config", "--format", "json"]
    done = subprocess.run(
        words, cwd=TREE, env={**environ, "AIR_TOKEN": "# a: b"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_only_this_machine_reaches_them(compose: dict[str, Any]) -> None:
    """Ports are published on loopback, nothing has a capability or may write to its image."""
    for name in ("prometheus", "grafana"):
        service = compose["services"][name]
        assert [port["host_ip"] for port in service["ports"]] == ["127.0.0.1"]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert not service["image"].endswith(":latest")


def test_nothing_is_missing(compose: dict[str, Any]) -> None:
    """Every file that is mounted lies in the repository."""
    for name in ("prometheus", "grafana"):
        for mount in compose["services"][name]["volumes"]:
            assert mount["type"] == "volume" or Path(mount["source"]).exists()
    dashboards = {mount["target"]: mount for mount in compose["services"]["grafana"]["volumes"]}
    assert Path(dashboards["/etc/grafana/dashboards"]["source"]) == FOLDER
    home = compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (FOLDER / Path(home).name).is_file()


def test_prometheus_takes_its_configuration(compose: dict[str, Any], tmp_path: Path) -> None:
    """With the token as it is, whatever characters are in it, and with the rules."""
    text = compose["configs"]["prometheus"]["content"].replace("/etc/prometheus/rules.yaml", str(FOLDER / "rules.yaml"))
    config = YAML(typ="safe", pure=True).load(text)
    assert config["scrape_configs"][0]["authorization"] == {"credentials": "# a: b"}
    assert config["scrape_configs"][0]["static_configs"] == [{"targets": ["manager:9464"]}]
    (tmp_path / "prometheus.yml").write_text(text, encoding="utf-8")
    words = [require("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_finds_prometheus_and_the_dashboards(compose: dict[str, Any]) -> None:
    """The provisioned data source is the service, the provider looks where the dashboards are mounted."""
    load = YAML(typ="safe", pure=True).load
    (source,) = load(compose["configs"]["grafana-sources"]["content"])["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = load(compose["configs"]["grafana-dashboards"]["content"])["providers"]
    assert provider["options"]["path"] in {m["target"] for m in compose["services"]["grafana"]["volumes"]}
