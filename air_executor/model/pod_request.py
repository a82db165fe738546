"""What a task asks of its pod on Kubernetes. The operator's settings say what is allowed."""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.record import Record
from air_executor.model.refusal import RefusalError
from air_executor.model.types import About, Accepts

MOST = 50
_PREFIX = r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?"
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
KEY, VALUE = re.compile(_PREFIX + _WORD), re.compile(f"(?:{_WORD})?")
_OBJECT = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_LONGEST_NOTE = 4096
_MAP: t.Json = {"type": "object", "maxProperties": MOST, "additionalProperties": {"type": "string"}}


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MOST:
        msg = f"must be a mapping of at most {MOST} names to texts"
        raise RefusalError(msg)
    for name, text in value.items():
        if not isinstance(name, str) or not KEY.fullmatch(name):
            raise RefusalError("is no name of a label in Kubernetes", at=(str(name)[:100],))
        if not isinstance(text, str) or len(text) > _LONGEST_NOTE or not text.isprintable():
            msg = f"must be printable text of at most {_LONGEST_NOTE} characters"
            raise RefusalError(msg, at=(name,))
    return value


def _labels(value: object) -> dict[str, str]:
    found = _texts(value)
    for name, text in found.items():
        if not VALUE.fullmatch(text):
            raise RefusalError("must be a value of a label in Kubernetes: at most 63 of A-Z a-z 0-9 _ . -", at=(name,))
    return found


def _key(value: object) -> str:
    if isinstance(value, str) and KEY.fullmatch(value):
        return value
    raise RefusalError("must be the key of a taint")


def _value(value: object) -> str:
    if isinstance(value, str) and VALUE.fullmatch(value):
        return value
    raise RefusalError("must be the value of a taint")


def _object(value: object) -> str:
    if isinstance(value, str) and _OBJECT.fullmatch(value):
        return value
    raise RefusalError("must be the name of an object of Kubernetes")


Selector = Annotated[dict[str, str], MaxLen(MOST), Accepts("labels", before=_labels, json=_MAP)]
Notes = Annotated[dict[str, str], MaxLen(MOST), Accepts("annotations", before=_texts, json=_MAP)]
TaintKey = Annotated[str, MaxLen(317), Accepts("a key", before=_key, json={"type": "string"})]
TaintValue = Annotated[str, MaxLen(63), Accepts("a value", before=_value, json={"type": "string"})]
ObjectName = Annotated[str, MaxLen(253), Accepts("a name", before=_object, json={"type": "string"})]
Effect = Annotated[
    Literal["NoSchedule", "PreferNoSchedule", "NoExecute"], *t.one_of("NoSchedule", "PreferNoSchedule", "NoExecute")
]
Operator = Annotated[Literal["Exists", "Equal"], *t.one_of("Exists", "Equal")]


@dataclass(slots=True, kw_only=True)
class Toleration(Record):
    """A taint of nodes on which the pod may run all the same."""

    key: Annotated[TaintKey, About("Key of the taint.")]
    operator: Annotated[
        Operator | None, About("`Exists` tolerates any value. Default: `Equal` with a value, else `Exists`.")
    ] = None
    value: Annotated[TaintValue | None, About("Value of the taint. Default: any.")] = None
    effect: Annotated[Effect | None, About("Effect of the taint. Default: any.")] = None


@dataclass(slots=True, kw_only=True)
class ObjectMount(Record):
    """A ConfigMap or a Secret as a folder with a file for each of its keys."""

    name: Annotated[ObjectName, About("Name of the ConfigMap or Secret.")]
    path: Annotated[t.Target, About("Absolute path of the folder in the container.")]


@dataclass(slots=True, kw_only=True)
class Scratch(Record):
    """An empty folder on the disk of the pod's node, gone with the pod."""

    path: Annotated[t.Target, About("Absolute path in the container.")]
    size: Annotated[t.Memory, About('Maximum size, such as "20Gi".')]


@dataclass(slots=True, kw_only=True)
class PodRequest(Record):
    """What a task asks of its pod."""

    node_selector: Annotated[Selector, About("Labels of the nodes that the pod may run on.")] = field(
        default_factory=dict
    )
    tolerations: Annotated[list[Toleration], MaxLen(MOST), About("Taints that the pod tolerates.")] = field(
        default_factory=list
    )
    service_account: Annotated[ObjectName | None, About("Service account of the pod, whose token is mounted then.")] = (
        None
    )
    secret: Annotated[
        ObjectName | None,
        About("Secret whose keys are the `secrets` of the task, in place of the one that all tasks may use."),
    ] = None
    priority_class: Annotated[ObjectName | None, About("Priority class of the pod.")] = None
    labels: Annotated[Selector, About("Labels of the Job and the pod.")] = field(default_factory=dict)
    annotations: Annotated[Notes, About("Annotations of the Job and the pod.")] = field(default_factory=dict)
    config_maps: Annotated[list[ObjectMount], MaxLen(MOST), About("ConfigMaps as folders, read-only.")] = field(
        default_factory=list
    )
    secret_files: Annotated[list[ObjectMount], MaxLen(MOST), About("Secrets as folders, read-only.")] = field(
        default_factory=list
    )
    scratch: Annotated[list[Scratch], MaxLen(MOST), About("Empty folders on the disk of the node.")] = field(
        default_factory=list
    )
