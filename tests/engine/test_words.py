"""What a server told one replica is known to all of them a heartbeat later."""

import json
from dataclasses import dataclass, replace

import anyio
import pytest

from refresher.domain.clients import Client
from refresher.domain.outcomes import ClientRejected, NotSent, Outcome, Transient
from refresher.domain.secret import Secret
from refresher.engine.admission import Admission
from refresher.engine.gate import FAILURES_TO_OPEN
from refresher.engine.words import AFTER_OTHERS, MOST_TOLD, WORTH_TELLING, Words
from refresher.logs import Event
from tests.domain.world import claimed, make_grant
from tests.engine.sharing import Daemon
from tests.engine.world import Lines
from tests.support.waiting import eventually
from tests.vault.sharing import Shared
from tests.vault.world import CRM, FakeClock, answered

QUIET: Outcome = Transient(reason="throttled", status=429, retry_after=60.0)
REJECTED: Outcome = ClientRejected(error="invalid_client", status=401)
SERVED = answered("at")


@dataclass
class Asking:
    """One replica, and what it may begin."""

    daemon: Daemon
    admission: Admission
    client: Client
    grants: int = 0

    def gets(self, *outcomes: Outcome) -> None:
        """Each is the answer to an exchange of another grant."""
        for outcome in outcomes:
            self.grants += 1
            claim = claimed(replace(make_grant(), id=self.grants))
            self.admission.begun(self.client, claim)
            self.admission.ended(self.client, claim, outcome)

    @property
    def waits(self) -> float | None:
        """Seconds until it may ask."""
        return self.admission.next_opening() if self.admission.is_closed(self.client) else None


async def replica(both: Shared, name: str, client: Client = CRM) -> Asking:
    daemon = Daemon(await both.replica(name), client)
    return Asking(daemon, daemon.replicas.begin_exchanges(), client)


async def beat(*replicas: Asking) -> None:
    for one in replicas:
        await one.daemon.turn()


async def test_quiet_that_a_server_wants_of_one_is_kept_by_all(both: Shared, lines: Lines) -> None:
    one, other = await replica(both, "one"), await replica(both, "two")
    one.gets(QUIET)
    assert other.waits is None
    await beat(one, other)
    assert one.waits is not None
    assert other.waits == pytest.approx(one.waits + AFTER_OTHERS)
    told = [(line["client"], line["reason"]) for line in lines.of(Event.ENDPOINT_SUSPENDED)]
    assert told == [("crm", "retry_after")] * 2


async def test_the_first_question_after_it_answers_for_all(both: Shared) -> None:
    """Refused again the others go on waiting; served they may ask at once, one at a time."""
    one, other = await replica(both, "one"), await replica(both, "two")
    one.gets(QUIET)
    await beat(one, other)
    both.clock.move(66.0)
    assert one.waits is None
    one.gets(QUIET)
    await beat(one, other)
    both.clock.move(AFTER_OTHERS)
    assert other.waits is not None
    assert other.waits > 50.0
    assert one.waits is not None
    both.clock.move(one.waits)
    one.gets(SERVED)
    await beat(one, other)
    assert other.waits is None
    assert other.admission.is_suspended(CRM)
    other.gets(SERVED)
    assert not other.admission.is_suspended(CRM)


async def test_quiet_that_was_taken_back_early_binds_nobody(both: Shared) -> None:
    """An operator has changed the client at one of them."""
    one, other = await replica(both, "one"), await replica(both, "two")
    one.gets(QUIET)
    await beat(one, other)
    one.admission.forget(CRM)
    await beat(one, other)
    assert other.waits is None


async def test_who_was_told_the_same_itself_waits_for_its_own(both: Shared) -> None:
    one, other = await replica(both, "one"), await replica(both, "two")
    one.gets(QUIET)
    other.gets(QUIET)
    await beat(one, other, one)
    one.admission.forget(CRM)
    await beat(one, other)
    assert other.waits is not None


async def test_what_a_replica_said_that_is_gone_holds_to_its_end(both: Shared) -> None:
    one, other = await replica(both, "one"), await replica(both, "two")
    one.gets(QUIET)
    await beat(one, other)
    await one.daemon.replicas.leave(1.0)
    await beat(other)
    assert other.waits is not None
    both.clock.move(other.waits)
    assert other.waits is None


async def test_who_starts_later_knows_it_before_it_asks(both: Shared) -> None:
    one = await replica(both, "one")
    one.gets(QUIET)
    await beat(one)
    late = await replica(both, "late")
    await beat(late)
    assert late.waits is not None


async def test_a_rejected_client_is_asked_for_by_one_of_them(both: Shared, lines: Lines) -> None:
    one, other = await replica(both, "one"), await replica(both, "two")
    one.gets(REJECTED)
    await beat(one, other)
    assert not other.admission.is_rejected(CRM)  # one word is about one grant
    one.gets(REJECTED)
    await beat(one, other)
    assert other.admission.is_rejected(CRM)
    assert one.waits is not None
    assert other.waits == pytest.approx(one.waits + AFTER_OTHERS)
    both.clock.move(one.waits)
    one.gets(SERVED)
    await beat(one, other)
    assert other.waits is None
    other.gets(SERVED)
    assert not other.admission.is_rejected(CRM)
    assert len(lines.of(Event.CLIENT_REJECTED)) == len(lines.of(Event.CLIENT_RECOVERED)) == 2


async def test_who_has_another_secret_is_not_rejected_for_it(both: Shared) -> None:
    """A new secret comes to one replica after the other."""
    proof = replace(CRM.authentication, secret=Secret("canary-new-secret"))
    one = await replica(both, "one")
    other = await replica(both, "two", replace(CRM, authentication=proof))
    one.gets(REJECTED, REJECTED)
    await beat(one, other)
    assert not other.admission.is_rejected(other.client)
    assert other.waits is None


async def test_what_may_be_a_replicas_own_way_is_not_passed_on(both: Shared) -> None:
    """It cannot reach the server, or gets a proxy's answers: the others can."""
    one, other = await replica(both, "one"), await replica(both, "two")
    one.gets(*[NotSent(reason="refused")] * FAILURES_TO_OPEN)
    one.gets(*[Transient(reason="unavailable", status=503)] * FAILURES_TO_OPEN)
    assert one.waits is not None
    await beat(one, other)
    assert other.waits is None


async def test_no_secret_is_in_what_is_told(both: Shared) -> None:
    one, other = await replica(both, "one"), await replica(both, "two")
    one.gets(REJECTED, REJECTED)
    await beat(one)
    [told] = await other.daemon.replicas._vault.leases.beat()
    assert told.words is not None
    assert "canary" not in told.words


async def test_a_heartbeat_with_news_waits_for_no_second_to_pass(
    both: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refresher.engine.replicas.BEAT_EVERY", 1_000.0)
    one, other = await replica(both, "one"), await replica(both, "two")

    async def is_known() -> bool:
        await beat(other)
        return other.waits is not None

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.daemon.replicas.run)
        await anyio.wait_all_tasks_blocked()
        one.gets(QUIET)
        await eventually(is_known, "the other knows it")
        tasks.cancel_scope.cancel()


def test_of_very_many_gates_those_are_told_that_last() -> None:
    words = Words(FakeClock())
    for number in range(MOST_TOLD + 50):
        words.say(f"gate {number}", CRM, 10.0 + number)
    told = json.loads(words.told() or "")["words"]
    assert len(told) == MOST_TOLD
    assert told[0]["gate"] == "gate 50"


def test_a_shorter_word_takes_nothing_from_a_longer_one() -> None:
    words = Words(FakeClock())
    words.say("gate", CRM, 60.0)
    words.say("gate", CRM, 10.0)
    [told] = json.loads(words.told() or "")["words"]
    assert told["until"] == pytest.approx(FakeClock().now() + 60.0)


async def test_a_moment_of_quiet_is_nobody_elses_business(both: Shared) -> None:
    """It would stop the others for longer than the server has asked for."""
    one, other = await replica(both, "one"), await replica(both, "two")
    one.gets(Transient(reason="throttled", status=429, retry_after=WORTH_TELLING - 1.0))
    await beat(one, other)
    assert one.waits is not None
    assert other.waits is None


async def test_what_is_made_due_at_one_wakes_all(both: Shared) -> None:
    """Another one may have the only place for it."""
    one, other = await replica(both, "one"), await replica(both, "two")
    await beat(one, other, one, other)
    before = one.daemon.woken, other.daemon.woken
    one.daemon.replicas.telling(lambda: None)()
    for _ in range(3):
        await beat(one, other)
    assert (one.daemon.woken, other.daemon.woken) == (before[0], before[1] + 1)
