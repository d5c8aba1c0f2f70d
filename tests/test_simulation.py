"""The guarantees as invariants of a simulated world, and proof that they can fail."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from refresher.clock import Clock
from refresher.domain import doubts, schedule
from refresher.domain.adoption import Attempt
from refresher.domain.clients import Client
from refresher.domain.commit_rule import Verdict
from refresher.domain.grants import Claim, Grant, TokenSet
from refresher.engine import recovery
from refresher.engine.admission import Admission
from refresher.engine.durability import Durability
from refresher.engine.gate import Gate
from refresher.vault import exchanges, revocations
from refresher.vault.rows import Transaction
from tests.simulation import Violated, simulate, simulate_traced

INJECTED = (
    "answer late",
    "answer lost",
    "asked again",
    "authorizations revoked",
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
    "grant.removed",
    "grant.singled_out",
    "incident.closed",
    "incident.opened",
    "late answer of a usurped process",
    "late tokens parked",
    "logins in mid-exchange",
    "not sent",
    "operator awaited",
    "ordered pauses over",
    "pause",
    "paused",
    "processed for nobody",
    "read late",
    "refresh --lost",
    "refresh token only",
    "removed in mid-exchange",
    "request late",
    "request lost",
    "revocations done",
    "revoked in mid-exchange",
    "revoked by a person",
    "said: client refused",
    "said: incident",
    "said: tenant refused",
    "said: too early",
    "said: wordless",
    "server error",
    "shutdowns",
    "slow disk",
    "static tokens set",
    "throttled",
    "timed out",
    "unreadable answer",
    "usurped in flight",
    "vault outages",
    "vault refused",
)


@pytest.fixture(autouse=True)
def vault_hangs_late() -> None:
    """In virtual time no machine is busy, and a vault hangs as soon as it does for a daemon."""


def test_no_fault_violates_a_guarantee() -> None:
    seen: Counter[str] = Counter()
    for seed in (1, 7, 14):  # between them everything happens
        seen += simulate(9_000, seed)
    assert [kind for kind in INJECTED if not seen[kind]] == []
    assert seen["adopted"] > 300
    assert seen["logins"] > 20


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_many_steps_violate_no_guarantee() -> None:
    for seed in range(200, 240):
        simulate(20_000, seed)


def test_a_seed_replays_identically() -> None:
    assert (first := simulate_traced(1_000, 11)) == simulate_traced(1_000, 11)
    assert first[1] != simulate_traced(1_000, 12)[1]


def _simulate_from(first: int, every: int = 1) -> None:
    for seed in range(first, first + 20 * every, every):
        simulate(14_000 if every > 1 else 6_000, seed)


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

    def ended(
        self: Admission, client: Client, claim: Claim, _: object, *, was_late: bool = False
    ) -> None:
        gate = self._gate(client)
        self._count(gate, claim, -1)
        gate.working -= not was_late

    patch.setattr(Admission, "ended", ended)


def _believe_every_refusal(patch: pytest.MonkeyPatch) -> None:
    """A first refusal that is final at once."""
    patch.setattr(schedule, "is_final_refusal", lambda *_: True)


def _ask_the_doubted_all_the_time(patch: pytest.MonkeyPatch) -> None:
    """A doubt without a schedule."""
    patch.setattr(schedule, "next_question", lambda _, __, now, draw: now + 5.0 + draw)


def _send_the_dead(patch: pytest.MonkeyPatch) -> None:
    """A loss that is due again."""
    lost = doubts._lost

    def soon(grant: Grant, reason: str, error: str, attempt: Attempt) -> Grant:
        return replace(lost(grant, reason, error, attempt), due_at=attempt.ended_at + 60.0)

    patch.setattr(doubts, "_lost", soon)


def _stop_the_client(patch: pytest.MonkeyPatch) -> None:
    """A word about a client that keeps all of its grants waiting, for hours."""

    def accuse(self: Admission, gate: Gate, *_: object) -> None:
        gate.closed_until = self._clock.monotonic() + schedule.CLIENT_PROBE * 60

    patch.setattr(Admission, "_accuse", accuse)


def _hang_up_at_the_deadline(patch: pytest.MonkeyPatch) -> None:
    """An answer that is dropped because it is late."""
    patch.setattr(schedule, "LONGEST_READING", 0.0)


def _resume_by_itself(patch: pytest.MonkeyPatch) -> None:
    """A ``pause`` that replays."""

    def replay_at(now: float, *_: object, **__: object) -> float:
        return now

    patch.setattr(schedule, "replay_at", replay_at)


def _revoke_no_late_token(patch: pytest.MonkeyPatch) -> None:
    """A late token of a revoked authorization that lives on."""
    patch.setattr(exchanges, "park_late", lambda *_: False)


def _revoke_what_was_removed(patch: pytest.MonkeyPatch) -> None:
    """A late token that is revoked although somebody else may have taken the grant over."""

    def park(tx: Transaction, claimed: Grant, tokens: TokenSet) -> bool:
        end = tokens.refresh_token_expires_at
        revocations._park(tx, claimed, tokens.refresh_token, tokens.access_token, known_end=end)
        return True

    patch.setattr(exchanges, "park_late", park)


def _rescue_nothing(patch: pytest.MonkeyPatch) -> None:
    """A durability that has no rescue file."""
    until_written = Durability.until_written

    async def unsafe(
        self: Durability, write: object, *, grant: Grant, record: object = None
    ) -> object:
        return await until_written(self, write, grant=grant)  # type: ignore[arg-type]

    patch.setattr(Durability, "until_written", unsafe)


@pytest.mark.parametrize(
    ("breakage", "guarantee", "seeds"),  # those that show it soonest
    [
        (_adopt_everything, "G3", (4,)),
        (_ask_the_doubted_all_the_time, "G6", (2,)),
        (_believe_every_refusal, "G6", (2,)),
        (_forget_intents, "G3", (2,)),
        (_hang_up_at_the_deadline, "G3", (1,)),
        (_ignore_the_server, "G7", (25,)),
        (_keep_leases, "G7", (2,)),
        (_rescue_nothing, "G3", (60,)),
        (_resume_by_itself, "G3", (2,)),
        (_revoke_no_late_token, "revoke", (1,)),
        (_revoke_what_was_removed, "revoke", (11,)),
        (_send_the_dead, "I3", (1,)),
        (_stop_the_client, "G7|G8", (69, 4)),  # of the steady worlds
    ],
)
def test_a_broken_rule_is_noticed(
    breakage: Callable[[pytest.MonkeyPatch], None],
    guarantee: str,
    seeds: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breakage(monkeypatch)
    with pytest.raises(Violated, match=guarantee):
        _simulate_from(*seeds)
