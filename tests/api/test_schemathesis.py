"""What the document promises, a live manager keeps: requests made from it by schemathesis, valid ones and garbage."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies

from air_executor.web.api.api_app import make_routes
from tests.api.conftest import API, PATIENCE, ServedApi
from tests.lanes import NIGHTLY, missing

EXAMPLES = 200 if NIGHTLY else 4
"""Requests for each path and method."""
OPERATIONS = sorted(
    (path, method)
    for path, methods in make_routes().openapi()["paths"].items()
    for method in methods
    if not path.endswith("/events")  # a stream does not end
)


@pytest.fixture(scope="module")
def schema(served: ServedApi) -> Any:  # noqa: ANN401 - of the library
    """The document as the library has it, and jobs that its requests may find."""
    if importlib.util.find_spec("schemathesis") is None:
        missing("schemathesis is not installed: `pip install '.[dev]'`")
    import schemathesis  # noqa: PLC0415 - heavy

    served.submit("known", "echo out")
    served.ended("known")
    found = json.loads(served.get("/openapi.json").body)
    made = schemathesis.openapi.from_dict(found)
    made.config.base_url = f"http://127.0.0.1:{served.port}{API}"
    return made


@pytest.mark.filterwarnings("ignore")  # what the library does with its own parts
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=[f"{m} {p}" for p, m in OPERATIONS])
def test_each_answer_is_as_the_document_says(served: ServedApi, schema: Any, path: str, method: str) -> None:  # noqa: ANN401 - of the library
    """Statuses, content types and bodies; no request, however odd, is an internal error."""
    from schemathesis.checks import not_a_server_error  # noqa: PLC0415 - heavy
    from schemathesis.generation import GenerationMode  # noqa: PLC0415
    from schemathesis.specs.openapi import checks  # noqa: PLC0415

    operation = schema[path][method.upper()]
    token = {"Authorization": f"Bearer {served.tokens['admin']}"}
    conformance = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    ]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=not NIGHTLY,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategies.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode)))
    def ask(case: Any) -> None:  # noqa: ANN401 - of the library
        case.call_and_validate(headers=token, checks=conformance, timeout=PATIENCE)

    ask()
    assert served.get("/manager").data["running"] is True, served.log
