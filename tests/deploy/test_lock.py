"""What the image is made of is locked: releases, hashes, and no address."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.files import CHECKOUT
from tests.lock import BUILDING, COMMAND, RUNNING

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
LOCKED = re.compile(
    r"^([A-Za-z0-9._-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE
)

NEED = {RUNNING: PROJECT["project"]["dependencies"], BUILDING: PROJECT["build-system"]["requires"]}


@pytest.mark.parametrize("path", NEED, ids=lambda path: path.stem)
def test_every_release_has_its_hashes_and_nothing_an_address(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    assert f"#    {COMMAND}\n" in lines
    lock = "".join(line for line in lines if not line.startswith("#"))
    assert LOCKED.search(lock)
    assert not LOCKED.sub("", lock).strip()


@pytest.mark.parametrize("path", NEED, ids=lambda path: path.stem)
def test_the_lock_is_what_the_project_asks_for(path: Path) -> None:
    releases = {canonicalize_name(name): v for name, v, _ in LOCKED.findall(path.read_text())}
    for line in NEED[path]:
        asked = Requirement(line)
        assert asked.specifier.contains(releases[canonicalize_name(asked.name)]), (
            f"{asked} and {path.name} disagree: {COMMAND}"
        )
        # What an extra brings is called like it, with us.
        assert {canonicalize_name(extra) for extra in asked.extras} <= releases.keys()


def test_a_next_major_release_is_taken_by_hand() -> None:
    # By the calendar, or with majors that break nobody here.
    unbounded = {"structlog", "cryptography", "rich"}
    for line in NEED[RUNNING]:
        asked = Requirement(line)
        bounds = {each.operator: each.version for each in asked.specifier}
        assert ("<" in bounds) == (asked.name not in unbounded), line
