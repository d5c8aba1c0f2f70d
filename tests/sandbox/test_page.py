"""The page of the practice server names all that it has, with the defaults."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import get_args

from refresher.cli.sandbox import PORT, REDIRECT_URI
from refresher.sandbox import Sandbox, SandboxOptions
from refresher.sandbox.control import Control
from refresher.sandbox.faults import Fault, is_processed
from tests.pages.reading import ROOT

PAGE = (ROOT / "refresher/sandbox/README.md").read_text()
OF_THE_COMMAND = {
    "port": str(PORT),
    "redirect_uris": REDIRECT_URI,
    "manners": "by the book",
    "openness": "nothing more",
}
WORDS = {"True": "true", "False": "false", "()": "none", "None": "none", "(0.0, 0.0)": "0 to 0"}


def table(heading: str) -> Mapping[str, list[str]]:
    """The rows below HEADING by what their first cell has in backquotes."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:3] == "| `"]
    return {cells[0].strip("`"): [cell.strip("`") for cell in cells[1:]] for cells in rows}


def test_every_option_has_its_default() -> None:
    defaults = {
        field.name: "none" if field.default is MISSING else str(field.default)
        for field in fields(SandboxOptions)
    }
    plain = {name: WORDS.get(text, re.sub(r"\.0$", "", text)) for name, text in defaults.items()}
    told = {name: cells[0] for name, cells in table("Options").items()}
    assert told == plain | OF_THE_COMMAND


def test_every_fault_is_told_with_what_it_spends() -> None:
    kinds = [kind() for kind in get_args(get_args(Fault)[0])]
    told = {name: cells[1] for name, cells in table("Faults").items()}
    expected = {fault.kind: "yes" if is_processed(fault) else "no" for fault in kinds}
    assert told == expected | {"raw": "if `after_processing"}


def test_every_order_is_told() -> None:
    routes = {f"{route.method} {route.path}" for route in Control(Sandbox()).routes()}
    assert set(table("Steer it over HTTP")) == routes
