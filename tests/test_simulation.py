"""The guarantees as invariants of a simulated world, and proof that they can fail."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.commit_rule import Verdict
from refresher.domain.grants import Grant
from refresher.domain.outcomes import Outcome
from refresher.engine import recovery
from refresher.engine.admission import Admission
from refresher.engine.durability import Durability
from refresher.vault import exchanges
from tests.simulation import Violated, simulate, simulate_traced

INJECTED = (
    "answer late",
    "answer lost",
    "clock stepped ahead",
    "clock stepped back",
    "commit unacknowledged",
    "crash after the disk",
    "crash before the disk",
    "crash while sending",
    "crash with the answer",
    "crashes in flight",
    "duplicate",
    "error after processing",
    "late answer of a usurped process",
    "logins in mid-exchange",
    "not sent",
    "paused",
    "processed for nobody",
    "refresh token only",
    "request late",
    "request lost",
    "revoked by a person",
    "server error",
    "shutdowns",
    "slow disk",
    "throttled",
    "timed out",
    "unreadable answer",
    "usurped in flight",
    "vault outages",
    "vault refused",
)


@pytest.mark.timeout(180)
def test_no_fault_violates_a_guarantee() -> None:
    seen: Counter[str] = Counter()
    for seed in (1, 2, 3, 4):
        seen += simulate(9_000, seed)
    assert [kind for kind in INJECTED if not seen[kind]] == []
    assert seen["adopted"] > 500
    assert seen["logins"] > 20


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_many_steps_violate_no_guarantee() -> None:
    for seed in range(200, 240):
        simulate(20_000, seed)


def test_a_seed_replays_identically() -> None:
    assert (first := simulate_traced(3_000, 11)) == simulate_traced(3_000, 11)
    assert first[1] != simulate_traced(1_000, 12)[1]


def _simulate_from(first: int) -> None:
    for seed in range(first, first + 20):
        simulate(6_000, seed)


def _adopt_everything(patch: pytest.MonkeyPatch) -> None:
    """A commit rule that always applies."""
    patch.setattr(exchanges, "judge", lambda *_, **__: Verdict.APPLY)


def _forget_intents(patch: pytest.MonkeyPatch) -> None:
    """A recovery that takes an open exchange for one that never was."""

    def forget(grant: Grant, client: Client, now: float, draw: float) -> Grant:
        return replace(grant, intent=None, due_at=now)

    patch.setattr(recovery, "resume_unresolved", forget)


def _keep_leases(patch: pytest.MonkeyPatch) -> None:
    """A recovery that lets the leases of the dead stand."""

    async def nothing(vault: object, clients: object, clock: Clock) -> None:
        return

    patch.setattr("tests.simulation.process.recover", nothing)


def _ignore_the_server(patch: pytest.MonkeyPatch) -> None:
    """An admission that has no breaker."""

    def ended(self: Admission, client: Client, outcome: Outcome | None) -> None:
        self._gate(client).in_flight -= 1

    patch.setattr(Admission, "ended", ended)


def _rescue_nothing(patch: pytest.MonkeyPatch) -> None:
    """A durability that has no rescue file."""
    until_written = Durability.until_written

    async def unsafe(
        self: Durability, write: object, *, grant: Grant, record: object = None
    ) -> object:
        return await until_written(self, write, grant=grant)  # type: ignore[arg-type]

    patch.setattr(Durability, "until_written", unsafe)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("breakage", "guarantee", "seed"),  # the seed that shows it soonest
    [
        (_adopt_everything, "G3", 2),
        (_forget_intents, "G3", 3),
        (_keep_leases, "G7", 1),
        (_ignore_the_server, "G7", 12),
        (_rescue_nothing, "G3", 11),
    ],
)
def test_a_broken_rule_is_noticed(
    breakage: Callable[[pytest.MonkeyPatch], None],
    guarantee: str,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breakage(monkeypatch)
    with pytest.raises(Violated, match=guarantee):
        _simulate_from(seed)
