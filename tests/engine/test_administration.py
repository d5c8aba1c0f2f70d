"""What people and the settings ask for: durable before it is acknowledged, said, published."""

from typing import Any

import pytest

from refresher.domain.requests import Rejected
from refresher.domain.secret import Secret
from refresher.domain.seeds import Seed
from refresher.engine.administration import SEEDS_CHANGED_AT_ONCE
from refresher.engine.announcements import TOLD_ONE_BY_ONE
from refresher.errors import (
    AuthorizationFailed,
    DuplicateRefreshToken,
    GrantConflict,
    UnknownGrant,
    VaultUnavailable,
)
from refresher.logs import Event
from refresher.vault.seeds import SeedResult
from refresher.vault.vault import Vault
from tests.engine.office import open_office
from tests.engine.world import Lines
from tests.vault.world import (
    CRM,
    NOW,
    access_token,
    answered,
    at,
    get,
    holds,
    make_client,
    make_seed,
    refresh,
    set_writable,
    sow,
    static_seed,
)


async def test_a_request_for_a_refresh_is_answered(vault: Vault, lines: Lines) -> None:
    await sow(vault, make_seed(), static_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    office = open_office(vault)
    assert await office.administration.refresh("acme") is not None
    assert (office.published, len(office.woken)) == (["acme"], 1)
    assert await office.administration.refresh("pat") is None
    with pytest.raises(UnknownGrant):
        await office.administration.refresh("nobody")
    told = [(line["event"], line["grant"], line["reason"]) for line in lines.all()]
    assert told == [
        ("request.accepted", "acme", "operator"),
        ("request.ignored", "pat", "operator"),
    ]


async def test_consumers_are_answered_with_a_line_each(vault: Vault, lines: Lines) -> None:
    await sow(vault, make_seed("a", "rt-a"), make_seed("b", "rt-b"), static_seed())
    for name in ("a", "b"):
        await refresh(vault, answered(f"at-{name}", f"rt-{name}-1"), name=name)
    await at(vault, NOW - 10).request_refresh("b")
    await refresh(vault, answered("at-b2", "rt-b-2"), name="b")
    office = open_office(vault)
    rejected = {
        name: Rejected(frozenset({(await get(vault, name)).version}), "401")
        for name in ("a", "b", "pat")
    }
    rejected["nobody"] = Rejected(frozenset({1}), "401")
    rejected["a"] = Rejected(rejected["a"].versions | {1}, "401")
    assert await office.administration.take_rejections(rejected) == set()
    told = {line["grant"]: line for line in lines.of(Event.REQUEST_ACCEPTED)}
    assert (told["a"]["reason"], told["a"]["outcome"], told["a"]["due_at"]) == (
        *("401", "accepted", NOW),
    )
    [deferred] = lines.of(Event.REQUEST_DEFERRED)
    assert (deferred["grant"], deferred["outcome"], deferred["due_at"]) == (
        *("b", "deferred", NOW + 20),
    )
    [refused] = lines.of(Event.REQUEST_REFUSED)
    assert (refused["grant"], refused["outcome"]) == ("pat", "reauthorization_required")
    [lost] = lines.of(Event.GRANT_LOST)
    assert (lost["grant"], lost["reason"]) == ("pat", "token_rejected")
    assert lost["repair"] == "refresher set-token pat"
    [ignored] = lines.of(Event.REQUEST_IGNORED)
    assert ignored["count"] == 1
    assert office.published == ["a", "b", "pat"]
    assert len(office.woken) == 1
    said = len(lines.all())
    await office.administration.take_rejections(rejected)
    assert lines.events()[said:] == ["request.ignored"]
    assert office.published == ["a", "b", "pat"]


async def test_a_version_above_the_vaults_is_handed_back(vault: Vault, lines: Lines) -> None:
    await sow(vault, make_seed())
    version = (await refresh(vault, answered("at-1", "rt-1"))).version
    office = open_office(vault)
    ahead = {"acme": Rejected(frozenset({version + 1}), "401")}
    assert await office.administration.take_rejections(ahead) == {"acme"}
    assert lines.all() == []
    seen = {"acme": Rejected(frozenset({version + 1}), "401", version + 1)}
    assert await office.administration.take_rejections(seen) == set()
    assert lines.events() == ["request.accepted"]


async def test_a_removed_grant_is_said_and_published(vault: Vault, lines: Lines) -> None:
    await sow(vault, make_seed())
    office = open_office(vault)
    await office.administration.remove("acme")
    assert await vault.find("acme") is None
    assert lines.events() == ["grant.removed"]
    assert office.published == ["acme"]


async def test_a_static_token_is_set_and_published(vault: Vault, lines: Lines) -> None:
    await sow(vault, static_seed())
    office = open_office(vault)
    grant = await office.administration.set_token(
        "pat", Secret("static-1"), expires_at=NOW + 9, token_type="Bearer"
    )
    assert await access_token(vault, "pat") == "static-1"
    [line] = lines.of(Event.GRANT_TOKEN_SET)
    assert (line["version"], line["expires_at"]) == (grant.version, NOW + 9)
    assert office.published == ["pat"]


async def test_an_import_adds_all_and_says_so(vault: Vault, lines: Lines) -> None:
    await sow(vault, make_seed("known", "rt-known"))
    office = open_office(vault)
    done = await office.administration.import_grants(
        [make_seed("a", "rt-a"), make_seed("known", "rt-new"), make_seed("b", "rt-b")],
        replace=False,
    )
    assert [(seeded.grant.name, seeded.result) for seeded in done] == [
        ("a", SeedResult.ADDED),
        ("known", SeedResult.ADOPTED),
        ("b", SeedResult.ADDED),
    ]
    assert lines.events() == ["grant.added", "grant.seeded", "grant.added"]
    assert {line["origin"] for line in lines.all()} == {"import"}
    assert office.published == ["a", "known", "b"]
    assert len(office.woken) == 1


async def test_an_import_of_very_many_costs_a_line_and_no_names(vault: Vault, lines: Lines) -> None:
    await sow(vault, make_seed("known", "rt-known"))
    office = open_office(vault)
    many = [make_seed(f"g-{n}", f"rt-{n}") for n in range(TOLD_ONE_BY_ONE + 1)]
    done = await office.administration.import_grants(
        [*many, make_seed("known", "rt-new")], replace=False
    )
    [added] = lines.of(Event.GRANT_ADDED)
    assert (added["client"], added["count"], added["origin"]) == ("crm", len(many), "import")
    assert "grant" not in added
    assert len(lines.of(Event.GRANT_SEEDED)) == 1
    assert office.published == ["known"]
    ids = {seeded.grant.name: seeded.grant.id for seeded in done}
    assert office.behind == [ids["known"]], "all that are above it are new"
    assert min(ids[seed.name] for seed in many) == ids["known"] + 1
    assert len(office.woken) == 2


async def test_a_name_that_comes_back_among_very_many_is_published_by_its_name(
    vault: Vault,
) -> None:
    """It has its old row, in front of others."""
    await sow(vault, make_seed("gone", "rt-gone"), make_seed("known", "rt-known"))
    office = open_office(vault)
    await office.administration.remove("gone")
    many = [make_seed(f"g-{n}", f"rt-{n}") for n in range(TOLD_ONE_BY_ONE + 1)]
    await office.administration.import_grants([make_seed("gone", "rt-back"), *many], replace=False)
    assert office.published == ["gone", "gone"]
    assert office.behind == [(await get(vault, "known")).id]


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (make_seed("c", "rt-a"), DuplicateRefreshToken),
        (make_seed("known", "rt-c", client="erp"), GrantConflict),
        (make_seed("c", "rt-c", client="gone"), AuthorizationFailed),
    ],
    ids=["duplicate", "conflict", "unknown client"],
)
async def test_an_import_adds_all_or_none(
    vault: Vault, lines: Lines, last: Seed, error: type[Exception]
) -> None:
    await sow(vault, make_seed("known", "rt-known"))
    office = open_office(vault, clients={"crm": CRM, "erp": make_client("erp")})
    seeds = [make_seed("a", "rt-a"), make_seed("b", "rt-b"), last]
    with pytest.raises(error):
        await office.administration.import_grants(seeds, replace=False)
    assert [grant.name for grant in await vault.grants()] == ["known"]
    assert lines.events() == []
    assert office.published == []


async def test_an_import_can_force_spent_tokens(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    office = open_office(vault)
    [unchanged] = await office.administration.import_grants([make_seed()], replace=False)
    assert unchanged.result is SeedResult.UNCHANGED
    [forced] = await office.administration.import_grants([make_seed()], replace=True)
    assert forced.result is SeedResult.ADOPTED
    assert holds(vault, await get(vault), "rt-0")


async def test_the_settings_skip_what_cannot_be(vault: Vault, lines: Lines) -> None:
    await sow(vault, make_seed("taken", "rt-taken"))
    office = open_office(vault)
    await office.administration.apply_settings(
        [make_seed("clash", "rt-taken"), static_seed("taken"), make_seed("good", "rt-good")]
    )
    assert [grant.name for grant in await vault.grants()] == ["good", "taken"]
    skipped = lines.of(Event.GRANT_SKIPPED)
    assert [line["grant"] for line in skipped] == ["clash", "taken"]
    assert skipped[0]["reason"].endswith("already belongs to grant taken")
    assert office.published == ["good"]


async def test_many_new_settings_take_few_transactions(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[None] = []
    write = vault._write

    async def counted(*arguments: Any, **options: Any) -> Any:
        written.append(None)
        return await write(*arguments, **options)

    monkeypatch.setattr(vault, "_write", counted)
    many = [make_seed(f"g-{n}", f"rt-{n}") for n in range(3 * SEEDS_CHANGED_AT_ONCE)]
    await open_office(vault).administration.apply_settings(many)
    assert len(await vault.grants()) == len(many)
    assert len(written) == 3


async def test_settings_applied_again_change_nothing(vault: Vault, lines: Lines) -> None:
    office = open_office(vault)
    seeds = [make_seed(labels={"team": "a"}), static_seed()]
    await office.administration.apply_settings(seeds)
    before, said = await vault.grants(), len(lines.all())
    office.published.clear()
    office.woken.clear()
    await office.administration.apply_settings(seeds)
    assert await vault.grants() == before
    assert len(lines.all()) == said
    assert (office.published, office.woken) == ([], [])


async def test_settings_on_a_refusing_vault_are_not_skipped(vault: Vault, lines: Lines) -> None:
    set_writable(vault, writable=False)
    with pytest.raises(VaultUnavailable):
        await open_office(vault).administration.apply_settings([make_seed()])
    assert lines.of(Event.GRANT_SKIPPED) == []
