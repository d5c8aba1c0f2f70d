"""The security page promises nothing that no test of the default run holds."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / ".github" / "SECURITY.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
LONGEST_LINE = 120

SECTIONS = (
    "Reporting",
    "Who is trusted",
    "What lies where",
    "What is promised",
    "What is not promised",
    "Hardening",
    "When something leaked",
    "How it was checked",
)


def section(title: str) -> str:
    return PAGE.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def promises() -> Iterator[str]:
    """Each promise as one line, with the tests that it names."""
    for item in re.split(r"\n(?=- |### )", section("What is promised")):
        if item.startswith("- "):
            yield " ".join(item.split())


def marks_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    return {ast.unparse(mark).removeprefix("pytest.mark.") for mark in function.decorator_list}


def functions_of(path: Path) -> dict[str, set[str]]:
    """The tests of the file PATH, with their marks."""
    body = ast.parse(path.read_text()).body
    tests = (one for one in body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
    return {one.name: marks_of(one) for one in tests if one.name.startswith("test_")}


def test_the_page_has_its_sections() -> None:
    assert tuple(re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)) == SECTIONS
    assert len(list(promises())) > 30


@pytest.mark.parametrize("promise", list(promises()), ids=lambda promise: promise[2:50])
def test_a_promise_is_held_by_tests_of_the_default_run(promise: str) -> None:
    named = NAMED.findall(promise)
    assert named, "a promise without a test is none"
    assert promise.count("::") == len(named), "every name can be read"
    for file, test in named:
        known = functions_of(ROOT / file)
        assert test in known, f"{file} has no {test}"
        assert not known[test] & {"long", "foreign"}


def test_whatever_else_is_named_exists() -> None:
    text = PAGE.read_text()
    for file, test in NAMED.findall(text):
        assert test in functions_of(ROOT / file)
    files = re.findall(r"`((?:tests|deploy|refresher)/[\w./-]+)`", text)
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_no_line_outside_tables_is_long() -> None:
    lines = PAGE.read_text().splitlines()
    assert [line for line in lines if len(line) > LONGEST_LINE and line[0] != "|"] == []


def test_the_readme_leads_here() -> None:
    assert "(.github/SECURITY.md)" in (ROOT / "README.md").read_text()
