"""What the chart makes for Prometheus and Grafana: nothing unless asked, and then whole."""

from __future__ import annotations

import json

import pytest
from ruamel.yaml import YAML

from tests.helm.chart import CHART, NAME, NAMESPACE, kinds, pick, pods, render, values_of

pytestmark = pytest.mark.kubernetes

KINDS = {"Service", "ServiceMonitor", "PodMonitor", "PrometheusRule"}


def test_off_by_default(helm_program: str) -> None:
    """A cluster without the operator takes the chart, and nobody reaches the manager."""
    plain = render(helm_program)
    assert not KINDS & set(kinds(plain))
    assert not [one for one in plain if one["metadata"]["name"].endswith("-dashboards")]
    (manager,) = pods(plain)[0]["containers"]
    assert "ports" not in manager
    assert not {"AIR_HTTP_HOST", "AIR_TOKEN"} & {one["name"] for one in manager["env"]}


def test_service_monitor(helm_program: str) -> None:
    """It finds the Service, which finds every manager, and shows the token."""
    objects = render(helm_program, *values_of("monitored"))
    monitor = pick(objects, "ServiceMonitor")
    service = pick(objects, "Service", f"{NAME}-metrics")
    assert monitor["spec"] == {
        "selector": {
            "matchLabels": {
                "app.kubernetes.io/name": "air-executor",
                "app.kubernetes.io/instance": "rel",
                "app.kubernetes.io/component": "metrics",
            }
        },
        "namespaceSelector": {"matchNames": [NAMESPACE]},
        "endpoints": [
            {
                "port": "http",
                "path": "/metrics",
                "interval": "30s",
                "authorization": {"credentials": {"name": "air-executor-token", "key": "token"}},
            }
        ],
    }
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    deployment = pick(objects, "Deployment")["spec"]["template"]
    assert service["spec"]["selector"].items() <= deployment["metadata"]["labels"].items()
    (manager,) = deployment["spec"]["containers"]
    assert manager["ports"] == [{"name": "http", "containerPort": 9464}]
    assert service["spec"]["ports"] == [{"name": "http", "port": 9464, "targetPort": "http", "protocol": "TCP"}]
    env = {one["name"]: one for one in manager["env"]}
    assert env["AIR_HTTP_HOST"]["value"] == "0.0.0.0"  # noqa: S104 - in a pod
    assert env["AIR_TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "air-executor-token", "key": "token"}}


def test_pod_monitor(helm_program: str) -> None:
    """It finds every manager, and needs no Service."""
    sets = {"metrics.podMonitor": {"enabled": True, "interval": "1m", "labels": {"release": "prometheus"}}}
    objects = render(helm_program, sets={**sets, "metrics.tokenSecret": "air-executor-token"})
    monitor = pick(objects, "PodMonitor")
    assert "Service" not in kinds(objects)
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": [NAMESPACE]}
    assert monitor["spec"]["podMetricsEndpoints"] == [
        {
            "port": "http",
            "path": "/metrics",
            "interval": "1m",
            "authorization": {"credentials": {"name": "air-executor-token", "key": "token"}},
        }
    ]
    deployment = pick(objects, "Deployment")["spec"]["template"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= deployment["metadata"]["labels"].items()
    assert deployment["spec"]["containers"][0]["ports"] == [{"name": "http", "containerPort": 9464}]
    assert pick(objects, "NetworkPolicy")["spec"]["ingress"] == [{"ports": [{"port": "http"}]}]


def test_network_policy_lets_prometheus_in(helm_program: str) -> None:
    """To that port alone, from where the operator says."""
    monitored = pick(render(helm_program, *values_of("monitored")), "NetworkPolicy")["spec"]
    where = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert monitored["ingress"] == [{"ports": [{"port": "http"}], "from": [where]}]
    anybody = pick(render(helm_program, sets={"metrics.service.enabled": True}), "NetworkPolicy")["spec"]
    assert anybody["ingress"] == [{"ports": [{"port": "http"}]}]


def test_rules_and_dashboards_are_the_files(helm_program: str) -> None:
    """Word for word: Helm expands nothing in them."""
    objects = render(helm_program, *values_of("monitored"))
    rules = YAML(typ="safe", pure=True).load(CHART / "monitoring" / "rules.yaml")
    assert pick(objects, "PrometheusRule")["spec"] == rules
    config = pick(objects, "ConfigMap", f"{NAME}-dashboards")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    shipped = {f"air-executor-{path.name}": path for path in (CHART / "monitoring").glob("*.json")}
    assert config["data"].keys() == shipped.keys()
    for name, path in shipped.items():
        assert json.loads(config["data"][name]) == json.loads(path.read_text(encoding="utf-8"))
