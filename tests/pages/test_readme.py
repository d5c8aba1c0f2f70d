"""The top page, followed to the letter: it is short, its samples are today's, its code runs."""

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from refresher.providers import all_providers
from refresher.settings.loading import load
from tests.pages.practice import Practice, demonstrated, practised, shape
from tests.pages.reading import README, blocks_of, shown

pytestmark = pytest.mark.timeout(300)

LARGEST = 13 * 1024
"""Bytes: what a newcomer reads at one sitting."""

DEMO_SECONDS = 6
TEXT = README.read_text()
SAMPLES = shown(TEXT)
REWRITE = "run: python -m tests.pages"


@pytest.fixture(scope="module")
def practice() -> Iterator[Practice]:
    with (
        TemporaryDirectory() as name,
        practised(Path(name)) as practice,
    ):  # lines wrap at long paths
        yield practice


def section(heading: str) -> str:
    return TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_it_is_short() -> None:
    assert len(README.read_bytes()) <= LARGEST


def test_it_counts_the_providers() -> None:
    assert f"`refresher providers` lists {len(all_providers())} providers" in TEXT


def test_every_sample_is_what_the_command_prints(practice: Practice) -> None:
    assert set(SAMPLES) == {*practice.said, "demo"}
    for name, said in practice.said.items():
        assert shape(SAMPLES[name]) == shape(said), REWRITE


def test_the_demo_ends_as_it_is_shown() -> None:
    assert shape(SAMPLES["demo"]) == shape(demonstrated(DEMO_SECONDS)), REWRITE


def test_a_sample_of_another_shape_is_noticed() -> None:
    said = SAMPLES["status"]
    assert shape(said) == shape(re.sub(r"\d+s", "7s", said))
    assert shape(said) != shape(said.replace("fresh", "expired"))


def test_the_twelve_lines_are_good_as_a_whole_file(tmp_path: Path) -> None:
    lines = SAMPLES["sandbox"].partition("\n\n")[2]
    assert len(lines.splitlines()) == 12
    file = tmp_path / "refresher.toml"
    file.write_text(lines)
    file.chmod(0o600)
    loaded = load(file, environment={})
    assert (list(loaded.settings.clients), loaded.warnings) == (["sandbox"], ())


def test_the_shell_uses_a_token(practice: Practice) -> None:
    [script] = blocks_of("sh", section("Read tokens"))
    said = practice.script("bash", "-ec", practice.here(script))
    assert json.loads(said)["subject"] == "owner"


def test_python_reads_a_token(practice: Practice) -> None:
    [script] = blocks_of("python", section("Read tokens"))
    said = practice.script(sys.executable, "-c", practice.here(script) + "print(access_token)")
    assert shape(said) == shape(SAMPLES["token"].splitlines()[1])


def test_the_daemon_goes_on_refreshing(practice: Practice) -> None:
    """The token that login brought lives 20 seconds: a later one has another version."""
    read = ("redis-cli", "HGET", "refresher:token:practice", "version")
    first, ends = practice.script(*read), time.monotonic() + 120
    while practice.script(*read) == first:
        assert time.monotonic() < ends, "no refresh came"
        time.sleep(5.0)  # to ask costs a shell and a program
