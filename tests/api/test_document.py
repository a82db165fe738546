"""The document of the API, and what its code costs those who do not use it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from air_executor.web.api.api_app import make_routes

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = DOCS / "schema" / "openapi.json"
HEAVY = ("air_executor.web", "fastapi", "starlette", "uvicorn")


def test_the_document_is_that_of_the_code() -> None:
    """Clients are made from it; `air-executor schema --api > docs/schema/openapi.json` renews it."""
    assert json.loads(DOCUMENT.read_text()) == json.loads(json.dumps(make_routes().openapi()))


def references(part: Any) -> set[str]:  # noqa: ANN401 - JSON data
    """Return the schemas that a part of the document refers to."""
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*map(references, part.values()))
    return set().union(*map(references, part)) if isinstance(part, list) else set()


def test_the_document_is_whole() -> None:
    """It is OpenAPI 3.1; what it refers to is there, and each path says what it is for and how it fails."""
    found = make_routes().openapi()
    assert found["openapi"].startswith("3.1")
    known = {f"#/components/schemas/{name}" for name in found["components"]["schemas"]}
    assert references(found) <= known
    for methods in found["paths"].values():
        for about in methods.values():
            assert about["summary"]
            assert about["description"]
            assert {"401", "404", "421", "422", "503"} <= set(about["responses"])


def test_each_path_is_in_the_documentation() -> None:
    """By its last word."""
    text = (DOCS / "api.md").read_text()
    for path in make_routes().openapi()["paths"]:
        word = [part for part in path.split("/") if not part.startswith("{")][-1]
        assert word in text, path


def test_without_a_port_nothing_of_it_is_imported(tmp_path: Path) -> None:
    """A manager without a server pays nothing; one with a server leaves what it takes to the server's process."""
    code = (
        "import sys\n"
        "from air_executor.settings import load\n"
        "from air_executor import wiring\n"
        f"settings = load({{'state_dir': {str(tmp_path / 'state')!r}, 'http_port': int(sys.argv[1])}})\n"
        "wiring.make_service(settings)\n"
        "import air_executor.manager.loop\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    ports = {"0": [], "9": ["air_executor.web"]}
    for port, loaded in ports.items():
        asked = port if port == "0" else _free_port()
        done = subprocess.run([sys.executable, "-c", code, asked], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == str(loaded)


def _free_port() -> str:
    import socket  # noqa: PLC0415

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
