"""The chart where the files of runs come over HTTP, and the claim is the manager's alone."""

from __future__ import annotations

import pytest

from tests.helm.chart import NAME, NAMESPACE, kinds, pick, refusal, render
from tests.helm.test_rights import rights

pytestmark = pytest.mark.kubernetes

OVER_HTTP = {"transport.type": "http"}


def test_inside_the_cluster(helm_program: str) -> None:
    """A Service of the release is the address for pods, and one volume on one node is enough."""
    objects = render(helm_program, sets=OVER_HTTP)
    service = pick(objects, "Service", f"{NAME}-transport")
    assert service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["selector"] == pick(objects, "Deployment")["spec"]["selector"]["matchLabels"]
    assert pick(objects, "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteOnce"]
    deployment = pick(objects, "Deployment")["spec"]
    assert deployment["strategy"] == {"type": "Recreate"}
    container = deployment["template"]["spec"]["containers"][0]
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert env["AIR_KUBERNETES_TRANSPORT"] == "http"
    port = service["spec"]["ports"][0]["port"]
    assert env["AIR_KUBERNETES_TRANSPORT_URL"] == f"http://{NAME}-transport.{NAMESPACE}.svc:{port}/"
    assert env["AIR_HTTP_HOST"] == "0.0.0.0"  # noqa: S104 - of its pod
    assert container["ports"] == [{"name": "http", "containerPort": port}]


def test_only_runs_reach_the_manager(helm_program: str) -> None:
    """Its own runners may connect to it, and to the manager they may where their egress is limited."""
    objects = render(helm_program, sets={**OVER_HTTP, "networkPolicy.runnerEgress": []})
    policies = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "NetworkPolicy"}
    runners = policies[f"{NAME}-runners"]["podSelector"]
    assert policies[NAME]["ingress"] == [{"ports": [{"port": "http"}], "from": [{"podSelector": runners}]}]
    to_managers = {"ports": [{"port": "http"}], "to": [{"podSelector": policies[NAME]["podSelector"]}]}
    assert policies[f"{NAME}-runners"]["egress"] == [to_managers]


def test_one_right_more(helm_program: str) -> None:
    """The manager creates a Secret for each Job, and reads none."""
    assert rights(render(helm_program, sets=OVER_HTTP)) - rights(render(helm_program)) == {("", "secrets", "create")}


def test_address_and_certificates_of_the_operator(helm_program: str) -> None:
    """Behind an Ingress no Service of its own is needed, and the certificates come from a Secret."""
    sets = {**OVER_HTTP, "transport.url": "https://air.example.com/", "transport.caSecret": "internal-ca"}
    objects = render(helm_program, sets=sets)
    assert "Service" not in kinds(objects)
    pod = pick(objects, "Deployment")["spec"]["template"]["spec"]
    env = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert env["AIR_KUBERNETES_TRANSPORT_URL"] == "https://air.example.com/"
    [mount] = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "ca"]
    assert env["AIR_KUBERNETES_TRANSPORT_CA"] == f"{mount['mountPath']}/ca.crt"
    [volume] = [one for one in pod["volumes"] if one["name"] == "ca"]
    assert volume["secret"]["secretName"] == "internal-ca"


def test_two_managers_need_a_shared_volume(helm_program: str) -> None:
    """A second manager on another node could not mount the claim, which Helm says before anything is installed."""
    said = refusal(helm_program, {**OVER_HTTP, "replicas": 2})
    assert "replicas: two managers need a claim that both can mount" in said
    shared = {**OVER_HTTP, "replicas": 2, "persistence.accessModes[0]": "ReadWriteMany"}
    assert pick(render(helm_program, sets=shared), "Deployment")["spec"]["strategy"]["type"] == "RollingUpdate"


def test_workspaces_in_an_object_store(helm_program: str) -> None:
    """The manager gets the address, and the credentials from a Secret that nothing else sees; a volume has no use."""
    store = {"workspaceStore.url": "s3://bucket/prefix", "workspaceStore.secretName": "air-store"}
    objects = render(helm_program, sets={**OVER_HTTP, **store})
    container = pick(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "AIR_WORKSPACE_STORE", "value": "s3://bucket/prefix"} in container["env"]
    assert container["envFrom"] == [{"secretRef": {"name": "air-store"}}]
    assert str(objects).count("air-store") == 1
    assert "set transport.type to http" in refusal(helm_program, store)
    for url in ("s3://key:secret@bucket", "s3://bucket?secret", "http://bucket"):
        refusal(helm_program, {**OVER_HTTP, "workspaceStore.url": url})
