"""``django-oauth-toolkit``, with reuse protection and with a grace period, and measured blind."""

from pathlib import Path

import anyio
import pytest

from refresher.domain.outcomes import ClientRejected, GrantRejected
from refresher.domain.quirks import ClientAuthentication
from refresher.domain.secret import Secret
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.foreign.servers import (
    Met,
    answer_of,
    logged_in,
    measured,
    refreshed,
    toolkit,
    value,
    walked,
)

pytestmark = pytest.mark.foreign

GRACE = 15.0

PROTECTED = {"REFRESH_TOKEN_REUSE_PROTECTION": True}
LENIENT = {"REFRESH_TOKEN_GRACE_PERIOD_SECONDS": GRACE}
FIXED = {"ROTATE_REFRESH_TOKEN": False}


@pytest.mark.parametrize("oauth2", [PROTECTED, LENIENT], ids=["protected", "lenient"])
def test_login_refresh_rotation_introspection_and_revocation(
    tmp_path: Path, oauth2: dict[str, object]
) -> None:
    with toolkit(tmp_path, **oauth2) as met:
        for way in (ClientAuthentication.BASIC, ClientAuthentication.POST):
            anyio.run(walked, met, met.client(client_authentication=way))


def test_a_reused_refresh_token_ends_the_grant_under_reuse_protection(tmp_path: Path) -> None:
    async def reuse(met: Met) -> None:
        client = met.client()
        async with TokenEndpoint() as endpoint:
            first = answer_of(await logged_in(endpoint, client))
            second = answer_of(await refreshed(endpoint, client, first.refresh_token))
            for token in (first.refresh_token, second.refresh_token):
                assert isinstance(await refreshed(endpoint, client, token), GrantRejected)

    with toolkit(tmp_path, **PROTECTED) as met:
        anyio.run(reuse, met)


def test_wrong_verifiers_and_secrets_are_told_apart(tmp_path: Path) -> None:
    async def mistake(met: Met) -> None:
        async with TokenEndpoint() as endpoint:
            wrong = await logged_in(endpoint, met.client(), code_verifier=Secret("x" * 43))
            assert isinstance(wrong, GrantRejected)
            stranger = met.client(client_secret=Secret("another"))
            assert isinstance(await logged_in(endpoint, stranger), ClientRejected)

    with toolkit(tmp_path) as met:
        anyio.run(mistake, met)


def test_reuse_protection_is_measured(tmp_path: Path) -> None:
    with toolkit(tmp_path, **PROTECTED) as met:
        found = measured(tmp_path, met.settings(), wait="4s")
    assert found["rotation"] == "strict"
    assert value(found, "reuse_kills_grant") is True
    assert value(found, "replay") is False
    assert value(found, "kills_access_token") is True
    assert found["asked_by"] == "introspection"
    assert found["logins"] <= 3
    assert found["dead"][0]["error"] == "invalid_grant"


def test_a_grace_period_is_measured(tmp_path: Path) -> None:
    with toolkit(tmp_path, **LENIENT) as met:
        found = measured(tmp_path, met.settings(), wait="60s")
    assert found["rotation"].startswith("grace(")
    accepted_for = value(found, "replay_seconds")
    # A machine that is busy makes the answers slow, and what is certain less; never more.
    assert 1 <= accepted_for <= GRACE * 1.25 + 1
    assert value(found, "replay_brings") == "same"
    assert value(found, "reuse_kills_grant") is False
    assert 'rotation = "grace(' in found["settings"]


def test_a_server_that_keeps_its_refresh_tokens_is_measured(tmp_path: Path) -> None:
    with toolkit(tmp_path, **FIXED) as met:
        found = measured(tmp_path, met.settings(), wait="4s")
    assert found["rotation"] == "none"
    assert value(found, "rotates") is False
