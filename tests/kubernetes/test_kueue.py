"""Kueue's Workloads on a real API server: their kind is installed, and what Kueue writes is written by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from air_executor.backends.container.refusals import ConflictError, MissingError
from air_executor.backends.kubernetes.object_status import read_workloads
from tests.cluster import Namespace
from tests.conftest import wait_for

pytestmark = pytest.mark.kubernetes

GROUP = "kueue.x-k8s.io"
KINDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
QUOTA = "couldn't assign flavors to pod set main: insufficient unused quota for cpu, 1 more needed"


@pytest.fixture
def kueue(namespace: Namespace) -> Iterator[Namespace]:
    """A namespace of a cluster that knows Workloads."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1beta2", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "Workload", "listKind": "WorkloadList", "plural": "workloads", "singular": "workload"}
    spec = {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]}
    # The server guards groups below k8s.io by this annotation.
    meta = {"name": f"workloads.{GROUP}", "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"}}
    try:
        namespace.ask("POST", KINDS, {"metadata": meta, "spec": spec})
    except ConflictError:
        pytest.skip("this cluster has Kueue, which would take the Workload away")
    yield namespace
    with contextlib.suppress(MissingError):
        namespace.ask("DELETE", f"{KINDS}/{meta['name']}")


def test_the_workload_of_a_job_is_found(kueue: Namespace) -> None:
    """By the version that the server prefers, and by the Job's uid."""
    path = f"/apis/{GROUP}/v1beta2/namespaces/{kueue.name}/workloads"

    def is_served() -> bool:
        try:
            return kueue.ask("GET", path)["kind"] == "WorkloadList" and kueue.api.workloads_of("none") == []
        except MissingError:
            return False

    wait_for(is_served, what="the server to know Workloads")
    for uid, words in (("mine", QUOTA), ("other", "something else")):
        pending = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": words}
        meta = {"name": f"job-air-census-{uid}", "labels": {f"{GROUP}/job-uid": uid}}
        body = {"apiVersion": f"{GROUP}/v1beta2", "kind": "Workload", "metadata": meta}
        kueue.ask("POST", path, {**body, "status": {"conditions": [pending]}})
    assert read_workloads(kueue.api.workloads_of("mine")) == QUOTA
