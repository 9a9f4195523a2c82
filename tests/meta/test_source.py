"""The source is held to its budgets: sizes, public names, pages drawn from the code."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import statistics
from pathlib import Path
from types import ModuleType

import pytest

import zizq

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MOST_LINES = 500
MOST_FUNCTION_LINES = 40


def functions(path: Path) -> list[tuple[str, int]]:
    """The functions of a file, with their lines but for docstrings and comments."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            first, last = (body[0].lineno, body[-1].end_lineno or 0) if body else (1, 0)
            code = [line for line in lines[first - 1 : last] if line.strip() and not line.strip().startswith("#")]
            found.append((f"{path.name}:{node.name}", len(code)))
    return found


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_functions_are_short() -> None:
    sizes = [function for path in SOURCES for function in functions(path)]
    assert [function for function in sizes if function[1] > MOST_FUNCTION_LINES] == []
    assert statistics.median(size for _, size in sizes) <= 5


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring or not text.strip()


def test_public_names_are_those_that_are_exported() -> None:
    public = {name for name in vars(zizq) if not name.startswith("_") and not isinstance(vars(zizq)[name], ModuleType)}
    assert public == set(zizq.__all__)
    assert sorted(zizq.__all__, key=str.lower) == sorted(set(zizq.__all__), key=str.lower)


def test_public_names_are_documented() -> None:
    values = {name: getattr(zizq, name) for name in zizq.__all__}
    own = {name: value for name, value in values.items() if inspect.isclass(value) or inspect.isfunction(value)}
    assert [name for name, value in own.items() if not value.__doc__] == []


def test_the_error_tree_is_drawn_as_it_is() -> None:
    from zizq import errors

    drawn = [line.strip(" ├─│└").split()[0] for line in (errors.__doc__ or "").splitlines() if "─" in line]
    classes = [
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.ZizqError)
    ]
    assert sorted([*drawn, "ZizqError"]) == sorted(classes)


def test_pages_drawn_from_the_code_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("docs_make", ROOT / "docs" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    for name, page in make.PAGES.items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == page(), f"docs/{name}: run `make docs`"


def test_every_verb_of_the_makefile_is_explained() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    [phony] = [line.removeprefix(".PHONY: ").split() for line in text.splitlines() if line.startswith(".PHONY")]
    explained = [line.partition(":")[0] for line in text.splitlines() if "## " in line and not line.startswith("\t")]
    assert sorted(explained) == sorted(phony)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 120
