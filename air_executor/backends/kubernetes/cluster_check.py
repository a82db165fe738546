"""Checks that a cluster answers and allows what runners need: for `air-executor doctor`, and `run` before it submits.

Each finding that is not good says what to do. Starts nothing and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from air_executor.backends.container.refusals import RefusedError
from air_executor.backends.kubernetes.api import Api
from air_executor.backends.kubernetes.kubernetes_setup import make_api, make_cluster_config
from air_executor.backends.kubernetes.manifests import POD_REPLACEMENT_POLICY, ClusterConfig
from air_executor.core.finding import BAD, FINE, WARN, Finding
from air_executor.errors import BackendUnavailableError, BadInputError
from air_executor.settings import Settings

LONGEST_WAIT = 10.0
"""Seconds after which a silent server counts as down; people wait for the answer."""
NEEDED = (
    ("batch", "jobs", ("create", "get", "list", "watch", "delete")),
    ("", "pods", ("list", "watch", "delete")),
    ("", "events", ("list",)),
)
"""What a manager does on the cluster: API group, resource, verbs."""
OVER_HTTP = (("", "secrets", ("create",)),)
"""What it does besides, where the files of runs come over HTTP."""
KEEPS = (("", "pods", ("patch",)),)
"""What it does besides with `keep_pods`."""


def reach(settings: Settings) -> None:
    """Make sure that the cluster answers.

    Raises:
        BadInputError: a setting is missing, or there is no access to a cluster.
        BackendUnavailableError: it does not answer; the message says what to do.
    """
    api = make_api(_impatient(settings))
    try:
        make_cluster_config(settings, api.namespace, "")
        api.version()
    except RefusedError as error:
        msg = f"the Kubernetes API server refuses: {error}"
        raise BackendUnavailableError(msg) from error
    finally:
        api.close()


def check(settings: Settings, version: str) -> Iterator[Finding]:
    """Check the cluster that these settings use."""
    try:
        api = make_api(_impatient(settings))
    except BadInputError as error:
        yield Finding("cluster", BAD, str(error), "set KUBECONFIG, or run in a pod with a service account")
        return
    try:
        yield from _check(api, make_cluster_config(settings, api.namespace, version))
    except BadInputError as error:
        yield Finding("cluster", BAD, str(error), "set it, or remove the setting")
    except (BackendUnavailableError, RefusedError) as error:
        yield Finding("cluster", BAD, str(error), "see that the API server runs and that KUBECONFIG names it")
    finally:
        api.close()


def _impatient(settings: Settings) -> Settings:
    group = settings.kubernetes
    shorter = group.model_copy(update={"timeout": min(group.timeout, LONGEST_WAIT)})
    return settings.model_copy(update={"kubernetes": shorter})


def _check(api: Api, config: ClusterConfig) -> Iterator[Finding]:
    major, minor = api.version()
    group = config.settings
    files = f"volume claim {group.claim}" if not group.carries_runs else f"files over {group.transport_url}"
    found = f"Kubernetes {major}.{minor}, namespace {api.namespace}, {files}"
    if (major, minor) >= POD_REPLACEMENT_POLICY:
        yield Finding("cluster", FINE, found)
    else:
        text = f"{found}; before 1.29 a Job may make a second pod, which stops at the claim and costs its start"
        yield Finding("cluster", WARN, text, "nothing is wrong with that; newer servers spare it")
    needed = (*NEEDED, *(KEEPS if group.keep_pods else ()), *(OVER_HTTP if group.carries_runs else ()))
    missing = [
        f"{verb} {resource}"
        for api_group, resource, verbs in needed
        for verb in verbs
        if not api.is_allowed(api_group, resource, verb)
    ]
    if missing:
        text = f"not allowed in namespace {api.namespace}: {', '.join(missing)}"
        yield Finding("permissions", BAD, text, "bind a Role with these verbs to the manager's service account")
    else:
        yield Finding("permissions", FINE, "all that runners need")
