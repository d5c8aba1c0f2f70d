"""An open vault for every test that wants one, in each of the databases that it may lie in."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from refresher.domain.secret import Secret
from refresher.vault.vault import Vault
from tests.support.postgresql import PrivatePostgres
from tests.vault.world import URLS, opened


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is about statements and rules in both databases."""
    if "either" in metafunc.fixturenames:
        is_of_a_file = metafunc.definition.get_closest_marker("of_a_file") is not None
        kinds = ["sqlite"] if is_of_a_file else ["sqlite", "postgresql"]
        metafunc.parametrize("either", kinds, indirect=True)


@pytest.fixture
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Have what the test opens in its folder lie in one of the databases, and then in the other."""
    if request.param == "postgresql":
        postgres: PrivatePostgres = request.getfixturevalue("postgres")
        with postgres.empty_vault() as url:
            URLS[tmp_path] = Secret(url)
            yield request.param
            del URLS[tmp_path]
    else:
        yield request.param


@pytest.fixture
async def vault(either: str, tmp_path: Path) -> AsyncIterator[Vault]:
    async with opened(tmp_path) as vault:
        yield vault
