"""The operations: what a command asks for in JSON, and what it gets back."""

import json
from typing import Any

import pytest

from refresher.app.calls import ImportedGrant, read_call
from refresher.app.looks import Looks
from refresher.app.operations import Operations, seed_of
from refresher.domain.grants import GrantKind
from refresher.domain.secret import Secret
from refresher.oauth.revocation import RevocationResult
from refresher.vault.vault import Vault
from tests.canary import Canary
from tests.engine.office import REVOCABLE, open_office
from tests.vault.world import (
    CRM,
    LIFE,
    NOW,
    access_token,
    answered,
    at,
    claim_one,
    finish,
    get,
    make_seed,
    refresh,
    sow,
    static_seed,
)


def offered(vault: Vault, *outcomes: Any) -> Any:
    """The operations by name, as the control socket calls them."""
    office = open_office(vault, *outcomes, clients={"crm": REVOCABLE})
    parts = (office.administration, office.logins, office.revoking, office.keeping)
    return Operations(*parts, {"pid": 7}).by_name() | Looks(vault, {}).by_name()


async def test_a_page_shows_everything_but_secrets(vault: Vault, canary: Canary) -> None:
    await sow(
        vault,
        make_seed(refresh_token=canary.plant("seed"), labels={"team": "a"}, scope=("r", "w")),
        static_seed(token=canary.plant("static")),
    )
    grant = await refresh(vault, answered(canary.plant("at"), canary.plant("rt")))
    page = await offered(vault)["grants"]({})
    assert (len(page["grants"]), page["next"]) == (2, None)
    assert page["grants"][0] == {
        "name": "acme",
        "client": "crm",
        "kind": "refreshable",
        "state": "fresh",
        "reason": None,
        "since": NOW,
        "version": grant.version,
        "issued_at": NOW,
        "expires_at": NOW + LIFE,
        "next_attempt_at": NOW + 0.75 * LIFE,
        "failures": 0,
        "exchange_open": False,
        "refresh_token": True,
        "refresh_token_expires_at": None,
        "scope": ["r", "w"],
        "authorized_by": None,
        "labels": {"team": "a"},
        "repair": None,
    }
    one = await offered(vault)["grant"]({"name": "acme"})
    assert page["grants"][0].items() <= one.items()
    assert canary.found_in(json.dumps([page, one]).encode()) == set()


async def test_a_login_goes_through_three_calls(vault: Vault) -> None:
    operations = offered(vault, answered("at-1", "rt-1"))
    target = await operations["login_target"]({"name": "acme", "client": "crm"})
    assert target == {"client": "crm", "redirect_uri": CRM.redirect_uris[0]}
    begun = await operations["login_begin"]({"name": "acme", "client": "crm"})
    assert (begun["client"], begun["redirect_uri"]) == ("crm", CRM.redirect_uris[0])
    assert begun["authorization_url"].startswith("https://crm.example/authorize?")
    assert f"state={begun['state']}&" in begun["authorization_url"]
    done = await operations["login_finish"]({"login": begun["login"], "pasted": "the-code"})
    assert (done["name"], done["state"]) == ("acme", "fresh")
    assert await access_token(vault) == "at-1"


async def test_an_import_reports_every_grant(vault: Vault) -> None:
    done = await offered(vault)["import"](
        {"grants": [{"name": "acme", "client": "crm", "refresh_token": "rt-0"}]}
    )
    assert [(grant["name"], grant["result"], grant["state"]) for grant in done["grants"]] == [
        ("acme", "added", "pending")
    ]


async def test_small_operations_reach_their_grant(vault: Vault) -> None:
    await sow(vault, make_seed(), static_seed())
    operations = offered(vault)
    assert await operations["refresh"]({"name": "acme"}) == {"accepted": True}
    refused = await operations["refresh"]({"name": "pat"})
    assert (refused["accepted"], refused["stands"]["state"]) == (False, "fresh")
    token = {"name": "pat", "token": "static-1", "expires_at": NOW + 9}
    assert (await operations["set_token"](token))["expires_at"] == NOW + 9
    assert await access_token(vault, "pat") == "static-1"
    revoked = await operations["revoke"]({"name": "acme"})
    assert (revoked["reason"], revoked["revoked"]) == ("revoked_here", True)
    assert (await get(vault)).refresh_token_fingerprint is None
    removed = {"removed": "acme", "exchange_out": False}
    assert await operations["remove"]({"name": "acme"}) == removed
    assert await vault.find("acme") is None


async def test_an_exchange_that_is_out_is_said(vault: Vault) -> None:
    """Of the authorization before, that is: what it brings is not published."""
    await sow(vault, make_seed(), make_seed("other", "rt-other"))
    operations = offered(vault, answered("at-login", "rt-login"))
    old = await claim_one(vault)
    login = await operations["login_begin"]({"name": "acme"})
    pasted = {"login": login["login"], "pasted": "the-code"}
    assert (await operations["login_finish"](pasted))["exchange_out"] is True
    line = {"name": "acme", "client": "crm", "refresh_token": "rt-new"}
    [imported] = (await operations["import"]({"grants": [line]}))["grants"]
    assert (imported["result"], imported["exchange_out"]) == ("adopted", True)
    await finish(vault, old, answered("at-1", "rt-1"))
    await claim_one(vault)  # the daemon has taken the new one up already
    assert (await operations["import"]({"grants": [line]}))["grants"][0]["exchange_out"] is False
    assert (await operations["remove"]({"name": "acme"}))["exchange_out"] is True
    assert (await operations["remove"]({"name": "other"}))["exchange_out"] is False


async def test_a_page_shows_what_is_still_to_be_revoked(vault: Vault) -> None:
    await sow(vault, make_seed())
    office = open_office(vault, clients={"crm": REVOCABLE})
    office.revocations.result = RevocationResult.NOT_SENT
    parts = (office.administration, office.logins, office.revoking, office.keeping)
    operations = Operations(*parts, {"pid": 7}).by_name() | Looks(vault, {}).by_name()
    claimed = await claim_one(vault)
    await at(vault, NOW).revocations.end("acme", lambda *_: True)
    await finish(vault, claimed, answered("at-1", "rt-1"))
    answer = await operations["revoke"]({"name": "acme"})
    assert (answer["revoked"], answer["result"]) == (False, "not_sent")
    shown = {
        "name": "acme",
        "client": "crm",
        "count": 2,
        "since": NOW,
        "attempts": 1,
        "next_attempt_at": NOW + 60,
        "until": NOW + 30 * 86_400,
    }
    assert answer["revocations"] == [shown]
    for asked in ({}, {"name": "acme"}, {"after": "acma", "limit": 1}):
        assert (await operations["revocations"](asked))["revocations"] == [shown]
    for asked in ({"name": "other"}, {"after": "acme"}):
        assert await operations["revocations"](asked) == {"revocations": [], "next": None}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"name": "a", "client": "crm", "refresh_token": "rt"}, GrantKind.REFRESHABLE),
        ({"name": "a", "access_token": "at"}, GrantKind.STATIC),
    ],
    ids=["refreshable", "static"],
)
def test_the_kind_of_a_seed_follows_its_token(content: dict[str, str], kind: GrantKind) -> None:
    assert seed_of(read_call(ImportedGrant, content)).kind is kind


def test_a_whole_seed_is_read() -> None:
    seed = seed_of(
        read_call(
            ImportedGrant,
            {
                "name": "acme",
                "client": "crm",
                "refresh_token": "rt",
                "access_token": "at",
                "expires_at": NOW,
                "token_type": "DPoP",
                "scope": ["r", "w"],
                "labels": {"team": "a"},
            },
        )
    )
    assert seed == make_seed(
        refresh_token="rt",
        access_token=Secret("at"),
        expires_at=NOW,
        token_type="DPoP",
        scope=("r", "w"),
        labels={"team": "a"},
    )
