"""Rotation, replay and reuse, on the pure state: time is what the test says."""

import pytest

from refresher.sandbox.answers import Refused
from refresher.sandbox.families import Families, Family, Rotation, TokenPair, TokenPolicy

CLIENT = "client-a"
T0 = 1_000_000.0


class World:
    """One family and shorthands; instants are seconds after its beginning."""

    def __init__(self, policy: TokenPolicy) -> None:
        self.families = Families()
        self.family, self.first = self.families.open(
            client_id=CLIENT, subject="owner", scope=("read", "write"), policy=policy, now=T0
        )

    def refresh(self, refresh_token: str | None, at: float = 0.0) -> TokenPair:
        assert refresh_token is not None
        return self.families.refresh(refresh_token, client_id=CLIENT, now=T0 + at)

    def refusal(self, refresh_token: str | None, at: float = 0.0) -> str:
        with pytest.raises(Refused) as caught:
            self.refresh(refresh_token, at)
        return caught.value.error

    def is_valid(self, pair: TokenPair, at: float = 0.0) -> bool:
        return self.families.use(pair.access_token, T0 + at) is not None


def is_dead(family: Family) -> bool:
    return family.revoked_at is not None


def test_without_rotation_the_refresh_token_stays() -> None:
    world = World(TokenPolicy(rotation="none"))
    second = world.refresh(world.first.refresh_token)
    third = world.refresh(world.first.refresh_token)
    assert second.refresh_token == third.refresh_token == world.first.refresh_token
    assert len({world.first.access_token, second.access_token, third.access_token}) == 3


def test_every_rotation_begins_a_new_generation() -> None:
    world = World(TokenPolicy(rotation="strict"))
    second = world.refresh(world.first.refresh_token)
    third = world.refresh(second.refresh_token)
    assert [world.first.generation, second.generation, third.generation] == [1, 2, 3]
    assert len({world.first.refresh_token, second.refresh_token, third.refresh_token}) == 3


def test_strict_reuse_ends_the_whole_family() -> None:
    world = World(TokenPolicy(rotation="strict"))
    second = world.refresh(world.first.refresh_token)
    assert world.is_valid(second)
    assert world.refusal(world.first.refresh_token) == "invalid_grant"
    assert is_dead(world.family)
    assert world.family.reuses == 1
    assert not world.is_valid(second)
    assert world.refusal(second.refresh_token) == "invalid_grant"


def test_reuse_can_leave_the_newest_alive() -> None:
    world = World(TokenPolicy(rotation="strict", revoke_family_on_reuse=False))
    second = world.refresh(world.first.refresh_token)
    assert world.refusal(world.first.refresh_token) == "invalid_grant"
    assert world.is_valid(second)
    assert world.refresh(second.refresh_token).generation == 3


@pytest.mark.parametrize(
    ("after", "answered"),
    [
        pytest.param(0.0, True, id="at once"),
        pytest.param(30.0, True, id="the last instant"),
        pytest.param(30.001, False, id="just too late"),
    ],
)
def test_grace_counts_from_the_first_processing(after: float, *, answered: bool) -> None:
    world = World(TokenPolicy(rotation="grace", grace_seconds=30.0))
    second = world.refresh(world.first.refresh_token, at=100.0)
    if answered:
        assert world.refresh(world.first.refresh_token, at=100.0 + after) == second
    else:
        assert world.refusal(world.first.refresh_token, at=100.0 + after) == "invalid_grant"
    assert is_dead(world.family) is not answered


def test_a_replay_does_not_prolong_the_grace() -> None:
    world = World(TokenPolicy(rotation="grace", grace_seconds=30.0, grace_answer="sibling"))
    world.refresh(world.first.refresh_token, at=0.0)
    world.refresh(world.first.refresh_token, at=29.0)
    assert world.refusal(world.first.refresh_token, at=31.0) == "invalid_grant"


def test_an_older_generation_has_no_grace() -> None:
    world = World(TokenPolicy(rotation="grace", grace_seconds=30.0))
    second = world.refresh(world.first.refresh_token)
    world.refresh(second.refresh_token)
    assert world.refusal(world.first.refresh_token) == "invalid_grant"
    assert is_dead(world.family)


def test_the_same_answer_overstates_its_lifetime() -> None:
    world = World(TokenPolicy(rotation="grace", access_token_lifetime=20.0))
    world.refresh(world.first.refresh_token, at=0.0)
    replayed = world.refresh(world.first.refresh_token, at=15.0)
    assert replayed.expires_in == 20
    assert world.is_valid(replayed, at=19.9)
    assert not world.is_valid(replayed, at=20.0)


def test_siblings_are_different_and_both_usable() -> None:
    world = World(TokenPolicy(rotation="grace", grace_answer="sibling"))
    second = world.refresh(world.first.refresh_token)
    sibling = world.refresh(world.first.refresh_token, at=1.0)
    assert sibling.generation == second.generation == 2
    assert sibling.refresh_token != second.refresh_token
    assert world.refresh(second.refresh_token, at=2.0).generation == 3


def test_the_latest_replay_voids_earlier_answers() -> None:
    world = World(TokenPolicy(rotation="grace", grace_answer="latest"))
    second = world.refresh(world.first.refresh_token)
    latest = world.refresh(world.first.refresh_token, at=1.0)
    assert world.refusal(second.refresh_token, at=2.0) == "invalid_grant"
    assert not is_dead(world.family)
    assert world.refresh(latest.refresh_token, at=3.0).generation == 3


def test_until_used_answers_replays_without_end() -> None:
    world = World(TokenPolicy(rotation="until_used"))
    second = world.refresh(world.first.refresh_token)
    assert world.refresh(world.first.refresh_token, at=1e6) == second
    assert world.refresh(world.first.refresh_token, at=2e6) == second


def test_using_the_successor_retires_its_predecessor() -> None:
    world = World(TokenPolicy(rotation="until_used"))
    second = world.refresh(world.first.refresh_token)
    world.refresh(second.refresh_token)
    assert world.refusal(world.first.refresh_token) == "invalid_grant"
    assert is_dead(world.family)


def test_using_the_new_access_token_retires_too() -> None:
    world = World(TokenPolicy(rotation="until_used", revoke_family_on_reuse=False))
    second = world.refresh(world.first.refresh_token)
    assert world.is_valid(world.first), "an older access token acknowledges nothing"
    assert world.refresh(world.first.refresh_token) == second
    assert world.is_valid(second)
    assert world.refusal(world.first.refresh_token) == "invalid_grant"


@pytest.mark.parametrize("rotation", ["none", "strict"])
def test_a_refresh_may_end_earlier_access_tokens(rotation: Rotation) -> None:
    world = World(TokenPolicy(rotation=rotation, revoke_access_token_on_refresh=True))
    second = world.refresh(world.first.refresh_token)
    assert not world.is_valid(world.first)
    assert world.is_valid(second)


def test_earlier_access_tokens_live_on_by_default() -> None:
    world = World(TokenPolicy(rotation="strict"))
    world.refresh(world.first.refresh_token)
    assert world.is_valid(world.first)


def test_no_refresh_token_answered_means_no_rotation() -> None:
    world = World(TokenPolicy(rotation="strict", refresh_token_in_answer=False))
    assert world.refresh(world.first.refresh_token).refresh_token is None
    assert world.refresh(world.first.refresh_token).access_token
    assert not is_dead(world.family)


def test_expires_in_can_be_left_out() -> None:
    world = World(TokenPolicy(expires_in_in_answer=False))
    assert world.refresh(world.first.refresh_token).expires_in is None


def test_another_client_is_refused_without_harm() -> None:
    world = World(TokenPolicy(rotation="strict"))
    assert world.first.refresh_token is not None
    with pytest.raises(Refused, match="invalid_grant"):
        world.families.refresh(world.first.refresh_token, client_id="client-b", now=T0)
    assert world.refresh(world.first.refresh_token).generation == 2


def test_the_scope_may_narrow_but_never_grow() -> None:
    world = World(TokenPolicy(rotation="none"))
    token = world.first.refresh_token
    assert token is not None
    narrowed = world.families.refresh(token, client_id=CLIENT, scope=("read",), now=T0)
    assert narrowed.scope == ("read",)
    assert world.refresh(token).scope == ("read", "write")
    with pytest.raises(Refused, match="invalid_scope"):
        world.families.refresh(token, client_id=CLIENT, scope=("read", "admin"), now=T0)


def test_revoking_a_refresh_token_ends_the_family() -> None:
    world = World(TokenPolicy())
    assert world.first.refresh_token is not None
    world.families.revoke_token(world.first.refresh_token, client_id=CLIENT, now=T0)
    assert is_dead(world.family)
    assert not world.is_valid(world.first)


@pytest.mark.parametrize(
    ("policy", "at", "ends"),
    [
        (TokenPolicy(rotation="strict"), 0.0, False),
        (TokenPolicy(rotation="strict", revoke_family_on_reuse=False), 0.0, False),
        (TokenPolicy(rotation="grace", grace_seconds=30.0), 30.0, True),
        (TokenPolicy(rotation="grace", grace_seconds=30.0), 31.0, False),
        (TokenPolicy(rotation="until_used"), 60.0, True),
        (TokenPolicy(rotation="none"), 60.0, True),
    ],
    ids=["strict", "strict without reuse", "in grace", "after grace", "until used", "none"],
)
def test_revoking_a_spent_refresh_token_ends_nothing(
    policy: TokenPolicy, at: float, *, ends: bool
) -> None:
    """RFC 7009 2.2: it is invalid already; what took its place lives on."""
    world = World(policy)
    assert world.first.refresh_token is not None
    second = world.refresh(world.first.refresh_token)
    world.families.revoke_token(world.first.refresh_token, client_id=CLIENT, now=T0 + at)
    assert is_dead(world.family) is ends
    if not ends:
        assert world.family.reuses == 0
        assert world.refresh(second.refresh_token, at).refresh_token is not None


def test_revoking_a_replaced_refresh_token_ends_nothing() -> None:
    world = World(TokenPolicy(rotation="grace", grace_answer="latest"))
    second = world.refresh(world.first.refresh_token)
    world.refresh(world.first.refresh_token)
    assert second.refresh_token is not None
    world.families.revoke_token(second.refresh_token, client_id=CLIENT, now=T0)
    assert not is_dead(world.family)


def test_revoking_an_unknown_token_ends_nothing() -> None:
    world = World(TokenPolicy())
    world.families.revoke_token("never issued", client_id=CLIENT, now=T0)
    assert not is_dead(world.family)


def test_revoking_an_access_token_ends_only_it() -> None:
    world = World(TokenPolicy())
    world.families.revoke_token(world.first.access_token, client_id=CLIENT, now=T0)
    assert not world.is_valid(world.first)
    assert world.is_valid(world.refresh(world.first.refresh_token))


def test_families_do_not_touch_each_other() -> None:
    world = World(TokenPolicy(rotation="strict"))
    other, pair = world.families.open(
        client_id=CLIENT, subject="guest", scope=("read",), policy=world.family.policy, now=T0
    )
    world.refresh(world.first.refresh_token)
    world.refusal(world.first.refresh_token)
    assert is_dead(world.family)
    assert not is_dead(other)
    assert world.refresh(pair.refresh_token).generation == 2


def test_an_access_token_that_lives_can_renew() -> None:
    world = World(TokenPolicy(renews_with_access_token=True, access_token_lifetime=60.0))
    assert world.first.refresh_token is None
    second = world.refresh(world.first.access_token, 30.0)
    assert second.refresh_token is None
    assert world.refusal(world.first.access_token, 61.0) == "invalid_grant"
    assert world.is_valid(world.refresh(second.access_token, 61.0), 100.0)
    assert not is_dead(world.family)
