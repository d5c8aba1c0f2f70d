"""Several replicas on one simulated vault: the guarantees, and proof that each rule is needed."""

from collections import Counter
from collections.abc import Callable

import pytest

from refresher.domain import leases, schedule
from refresher.domain.leases import Holder, Lease
from refresher.vault import resealing
from refresher.vault.heartbeats import Replica
from refresher.vault.leases import Leases
from tests.simulation import Violated, simulate

HAPPENED = (
    "crashes in flight",
    "cut off for long",
    "cut off in flight",
    "late tokens parked",
    "logins in mid-exchange",
    "paused for long",
    "read late",
    "revoked in mid-exchange",
    "taken over: dead",
    "taken over: harmless",
    "taken over: nothing open",
    "vault outages",
)


@pytest.fixture(autouse=True)
def vault_hangs_late() -> None:
    """In virtual time no machine is busy, and a vault hangs as soon as it does for a daemon."""


def test_no_number_of_replicas_violates_a_guarantee() -> None:
    seen: Counter[str] = Counter()
    for seed, replicas in ((17, 3), (22, 2)):  # between them everything happens
        seen += simulate(6_000, seed, replicas)
    assert [kind for kind in HAPPENED if not seen[kind]] == []
    assert seen["adopted"] > 150


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_many_steps_of_replicas_violate_no_guarantee() -> None:
    seen: Counter[str] = Counter()
    for seed in range(200, 230):
        seen += simulate(20_000, seed, 2 + seed % 2)
    assert seen["taken over: cut off"] > 0


CHANGED = ("keys changed", "new keys", "vault.key_waiting", "vault.resealed")


def test_replicas_that_change_their_key_violate_no_guarantee() -> None:
    seen = simulate(6_000, 8, 3, rotates=True)
    assert [kind for kind in CHANGED if not seen[kind]] == []


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_many_keys_of_replicas_violate_no_guarantee() -> None:
    seen: Counter[str] = Counter()
    for seed in range(300, 312):
        seen += simulate(20_000, seed, 2 + seed % 2, rotates=True)
    assert seen["refused without its key"] > 0


def test_a_key_that_seals_before_all_have_it_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resealing, "unread_by", lambda *_: [])
    with pytest.raises(Violated, match=r"K: . cannot open what is sealed from now on"):
        simulate(6_000, 8, 3, rotates=True)


def _take_the_silent_for_dead(patch: pytest.MonkeyPatch) -> None:
    """A holder that is cut off loses what it may have the only answer to."""
    patch.setattr(Holder, "is_dead", Holder.is_silent)


def _take_one_connection_for_all(patch: pytest.MonkeyPatch) -> None:
    """One that ends alone is taken for a death."""
    patch.setattr(Replica, "backends", property(lambda replica: {replica.backend}))


def _take_from_the_living(patch: pytest.MonkeyPatch) -> None:
    """Heartbeats that nobody waits for."""
    patch.setattr(Holder, "is_silent", lambda *_: True)


def _lease_for_too_short(patch: pytest.MonkeyPatch) -> None:
    """A lease that ends while its holder may still read the answer."""
    patch.setattr(leases, "length", lambda _: 40.0)


def _wait_for_no_token(patch: pytest.MonkeyPatch) -> None:
    """The end of a lease decides, however long the token lives."""
    patch.setattr(leases, "waited_for_until", lambda _, lease: lease.ends_at)


def _replay_whatever_rotates(patch: pytest.MonkeyPatch) -> None:
    """A strict server that is taken for one that forgives."""
    patch.setattr(leases, "_is_harmless", lambda *_: True)


def _believe_in_every_grace(patch: pytest.MonkeyPatch) -> None:
    """A grace window without an end."""
    patch.setattr(schedule, "last_replay_at", lambda *_: float("inf"))


def _send_unheard(patch: pytest.MonkeyPatch) -> None:
    """A holder that sends although it cannot be heard."""
    patch.setattr(Leases, "may_begin", lambda *_: True)


def _take_over_nothing(patch: pytest.MonkeyPatch) -> None:
    """Leases that outlive their holders."""

    def never(*_: object) -> bool:
        return False

    patch.setattr(leases, "may_take_over", never)


def _wait_for_the_dead(patch: pytest.MonkeyPatch) -> None:
    """A holder that is known to be dead is waited for like one that may live."""
    patch.setattr(Holder, "is_dead", lambda *_: False)


def _start_as_the_only_one(patch: pytest.MonkeyPatch) -> None:
    """A start that ends all leases, as with the file lock."""

    def at_once(_: object, __: object, lease: Lease, holder: Holder, now: float) -> bool:
        return True

    patch.setattr(leases, "may_take_over", at_once)


@pytest.mark.parametrize(
    ("breakage", "guarantee", "seed", "replicas"),  # that show it soonest
    [
        (_believe_in_every_grace, "G2|G3", 7, 3),
        (_replay_whatever_rotates, "G2|G3", 1, 3),
        (_send_unheard, "G2", 9, 3),
        (_start_as_the_only_one, "G2|G3", 1, 3),
        (_take_from_the_living, "G2", 1, 3),
        (_take_one_connection_for_all, "G2|G3", 1, 3),
        (_take_over_nothing, "G7", 2, 3),
        (_take_the_silent_for_dead, "G2|G3", 5, 3),
        # Those show only where a replica is cut off for minutes, or dies and comes back late.
        pytest.param(_lease_for_too_short, "G2|G3", 9, 2, marks=pytest.mark.long),
        pytest.param(_wait_for_no_token, "G3", 9, 2, marks=pytest.mark.long),
        pytest.param(_wait_for_the_dead, "G7", 2, 3, marks=pytest.mark.long),
    ],
)
def test_a_broken_rule_of_take_over_is_noticed(
    breakage: Callable[[pytest.MonkeyPatch], None],
    guarantee: str,
    seed: int,
    replicas: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breakage(monkeypatch)
    with pytest.raises(Violated, match=guarantee):
        _simulate_from(seed, replicas)


def _simulate_from(first: int, replicas: int) -> None:
    for seed in range(first, first + 20):
        simulate(12_000, seed, replicas)
