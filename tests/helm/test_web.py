"""What the chart makes for people outside of the cluster: nothing unless asked, and then nothing without a token."""

from __future__ import annotations

import base64

import pytest

from tests.helm.chart import NAME, kinds, pick, pods, refusal, render, values_of

pytestmark = pytest.mark.kubernetes

KINDS = {"Ingress", "HTTPRoute", "Service", "Secret"}
TOKENS = f"{NAME}-tokens"


def test_off_by_default(helm_program: str) -> None:
    """Nobody reaches the page, and no token is made."""
    assert not KINDS & set(kinds(render(helm_program)))


def test_generated_tokens(helm_program: str) -> None:
    """Two that differ and are long; the admin's is mounted, to be followed, and the viewer's guards metrics."""
    objects = render(helm_program, sets={"web.enabled": True, "metrics.serviceMonitor.enabled": True})
    data = pick(objects, "Secret", TOKENS)["data"]
    tokens = {name: base64.b64decode(value).decode() for name, value in data.items()}
    assert set(tokens) == {"token", "viewer"}
    assert len(set(tokens.values())) == 2
    assert all(token.startswith("air_") and len(token) == 47 for token in tokens.values())
    (manager,) = pods(objects)[0]["containers"]
    env = {one["name"]: one for one in manager["env"]}
    assert env["AIR_TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": TOKENS, "key": "viewer"}}
    (mount,) = [one for one in manager["volumeMounts"] if one["name"] == "token"]
    assert env["AIR_ADMIN_TOKEN_FILE"]["value"] == f"{mount['mountPath']}/token"
    assert mount["readOnly"] is True
    (endpoint,) = pick(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["authorization"] == {"credentials": {"name": TOKENS, "key": "viewer"}}
    assert "AIR_PUBLIC_URL" not in env


def test_behind_an_ingress(helm_program: str) -> None:
    """The Ingress leads to the Service and the Service to managers; the Secret is the operator's."""
    objects = render(helm_program, *values_of("from-anywhere"))
    ingress = pick(objects, "Ingress")
    assert ingress["apiVersion"] == "networking.k8s.io/v1"
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"secretName": "air-example-com", "hosts": ["air.example.com"]}]
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    service = pick(objects, "Service")
    assert path["backend"] == {"service": {"name": NAME, "port": {"name": service["spec"]["ports"][0]["name"]}}}
    template = pick(objects, "Deployment")["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert "Secret" not in kinds(objects)
    (volume,) = [one for one in template["spec"]["volumes"] if one["name"] == "token"]
    assert volume["secret"]["secretName"] == "air-executor-people"
    (manager,) = template["spec"]["containers"]
    assert {"name": "AIR_PUBLIC_URL", "value": "https://air.example.com/"} in manager["env"]
    (allowed,) = pick(objects, "NetworkPolicy")["spec"]["ingress"]
    assert allowed["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}]


def test_an_ingress_needs_a_host(helm_program: str) -> None:
    """It would serve whatever name leads to the controller."""
    assert "host" in refusal(helm_program, {"ingress.enabled": True})


def test_behind_a_gateway(helm_program: str) -> None:
    """The route leads from the Gateway's listener to the Service; event streams have no timeout."""
    objects = render(helm_program, *values_of("gitops"))
    route = pick(objects, "HTTPRoute")
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    (port,) = pick(objects, "Service")["spec"]["ports"]
    assert route["spec"] == {
        "parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https"}],
        "hostnames": ["air.example.com"],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "timeouts": {"request": "0s"},
                "backendRefs": [{"name": NAME, "port": port["port"]}],
            }
        ],
    }
    (manager,) = pods(objects)[0]["containers"]
    assert {"name": "AIR_PUBLIC_URL", "value": "https://air.example.com/"} in manager["env"]
    plain = render(helm_program, *values_of("gitops"), sets={"gateway.tls": False, "gateway.timeouts": None})
    assert "timeouts" not in pick(plain, "HTTPRoute")["spec"]["rules"][0]
    assert {"name": "AIR_PUBLIC_URL", "value": "http://air.example.com/"} in pods(plain)[0]["containers"][0]["env"]
