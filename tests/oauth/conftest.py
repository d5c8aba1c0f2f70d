"""What the system trusts is read once for all tests: it took as long as all else that most do."""

import ssl
from collections.abc import Iterator
from functools import cache
from unittest.mock import patch

import pytest

from refresher.oauth.transport import trust


@pytest.fixture(scope="session", autouse=True)
def read_once() -> Iterator[None]:
    load = trust._load

    @cache
    def of_the_system() -> ssl.SSLContext:
        return load(None, None)

    def known(ca_bundle: str | None, shown: trust.Shown | None) -> ssl.SSLContext:
        is_usual = ca_bundle is None and shown is None
        return of_the_system() if is_usual else load(ca_bundle, shown)

    with patch.object(trust, "_load", known):
        yield
