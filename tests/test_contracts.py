"""What holds for the whole package: who imports whom, who reads time, chance and environment."""

import ast
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "refresher"
MODULES = sorted(PACKAGE.rglob("*.py"))

LONGEST_MODULE = 400
"""Lines; a module stays below it."""

ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.getenvb"}
TIME = {
    *("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns"),
    *("time.perf_counter", "time.perf_counter_ns", "time.clock_gettime", "time.localtime"),
    *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today"),
    "datetime.date.today",
}
CHANCE = {"random", "os.urandom", "uuid.uuid1", "uuid.uuid4"}
NONCES = {"secrets"}

RULES: Mapping[str, tuple[set[str], tuple[str, ...]]] = {
    "the environment is read in the settings": (ENVIRONMENT, ("settings/",)),
    "time is read from the clock": (TIME, ("clock.py", "client.py", "sandbox/")),
    "chance comes from the clock": (CHANCE, ("clock.py", "sandbox/", "demo/private_server.py")),
    "nonces and keys are drawn where they are used": (
        NONCES,
        ("oauth/", "vault/", "engine/", "sandbox/"),
    ),
}
"""Each rule: the names it is about, and the only places where they may appear."""


@cache
def uses(source: str) -> Sequence[tuple[int, str]]:
    """Line and dotted name of everything in SOURCE that is reached through an import."""
    return list(_uses(source))


def _uses(source: str) -> Iterator[tuple[int, str]]:
    tree = ast.parse(source)
    origins: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                origins[alias.asname or top] = alias.name if alias.asname else top
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                origins[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield node.lineno, f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, *rest = ast.unparse(node).split(".")
            if first in origins:
                yield node.lineno, ".".join([origins[first], *rest])


def forbidden_uses(source: str, names: set[str]) -> list[str]:
    """What SOURCE uses of NAMES or of what they contain, as ``line N: name``."""
    return [
        f"line {line}: {used}"
        for line, used in uses(source)
        if any(used == name or used.startswith(f"{name}.") for name in names)
    ]


def test_every_import_contract_is_kept() -> None:
    lint_imports = Path(sysconfig.get_path("scripts")) / "lint-imports"
    done = subprocess.run(
        [lint_imports, "--no-cache"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize(("names", "places"), RULES.values(), ids=RULES)
def test_a_forbidden_name_appears_nowhere_else(names: set[str], places: tuple[str, ...]) -> None:
    found = [
        f"{module.relative_to(ROOT)} {use}"
        for module in MODULES
        if not str(module.relative_to(PACKAGE)).startswith(places)
        for use in forbidden_uses(module.read_text(), names)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        pytest.param("import os\nos.environ['A']", ENVIRONMENT, id="attribute"),
        pytest.param("from os import getenv\ngetenv('A')", ENVIRONMENT, id="from import"),
        pytest.param("from os import environ as e", ENVIRONMENT, id="alias"),
        pytest.param("import time as t\nread = t.monotonic", TIME, id="module alias"),
        pytest.param("from datetime import datetime\ndatetime.now()", TIME, id="class method"),
        pytest.param("import datetime as d\nd.datetime.now()", TIME, id="chain"),
        pytest.param("def f():\n    import random", CHANCE, id="late import"),
        pytest.param("from random import Random", CHANCE, id="part of a module"),
        pytest.param("import secrets", NONCES, id="module"),
    ],
)
def test_the_rules_see_every_spelling(source: str, names: set[str]) -> None:
    assert forbidden_uses(source, names)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("import os\nos.getpid()", id="another name of the module"),
        pytest.param("import time\ntime.strftime('%Y')", id="formatting is no reading"),
        pytest.param("def f(clock):\n    return clock.time.time()", id="no import"),
        pytest.param("from refresher import secrets_x, random_x", id="names that begin alike"),
    ],
)
def test_the_rules_leave_other_names_alone(source: str) -> None:
    assert forbidden_uses(source, ENVIRONMENT | TIME | CHANCE | NONCES) == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(module.relative_to(ROOT))
        for module in MODULES
        if not ast.get_docstring(ast.parse(module.read_text()))
    ]
    assert silent == []


def test_every_module_can_be_read_whole() -> None:
    lengths = {
        str(module.relative_to(ROOT)): len(module.read_text().splitlines()) for module in MODULES
    }
    assert {name: lines for name, lines in lengths.items() if lines >= LONGEST_MODULE} == {}
