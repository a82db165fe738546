"""The Python code in the pages is valid and imports existing names."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import textwrap
from pathlib import Path

import pytest

import air_executor
from air_executor import Client, errors, task
from tests.docs.pages import ROOT, Block, blocks, inline, rows


@pytest.mark.parametrize("block", blocks("python"))
def test_code_compiles_and_imports_what_exists(block: Block) -> None:
    """Each block parses, and each name it imports from this package exists."""
    for node in ast.walk(ast.parse(textwrap.dedent(block.text))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("air_executor"):
            assert [name.name for name in node.names if not _has(str(node.module), name.name)] == []


def _has(module: str, name: str) -> bool:
    if not module.startswith("air_executor.airflow."):
        return hasattr(importlib.import_module(module), name)
    # Airflow may not be installed; read the names from the source.
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    return name in {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def test_every_public_name_is_documented() -> None:
    """Every public name of `air_executor` is in the pages on tasks or Python."""
    text = "\n".join(word for page in ("tasks.md", "python.md") for word in inline(ROOT / "docs" / page))
    assert [name for name in air_executor.__all__ if name not in text] == []


def test_the_in_task_functions_are_all_there() -> None:
    """The table of the in-task API has every function, and no other."""
    documented = {row[0].strip("`").split("(")[0] for row in rows(ROOT / "docs/tasks.md", "The Python module")}
    assert documented == {name for name in task.__all__ if callable(getattr(task, name))}


def test_methods_and_errors_exist() -> None:
    """The tables of the client and the errors have only existing names."""
    page = ROOT / "docs/python.md"
    functions = {name for row in rows(page, "Functions") for name in row[0].replace("`", "").split(", ") if "(" in name}
    assert functions
    called = {name.split("(")[0].strip() for name in functions}
    assert [name for name in called if not hasattr(Client, name) and name not in air_executor.__all__] == []
    named = {name for row in rows(page, "Errors") for name in row[0].replace("`", "").split(", ")}
    assert named
    assert [name for name in named if not hasattr(errors, name)] == []
