"""Admission: concurrency, rate, and the breaker that all grants of an endpoint share."""

from dataclasses import replace
from typing import Any

import pytest

from refresher.domain.claiming import Room
from refresher.domain.clients import Client
from refresher.domain.grants import Claim, Fault
from refresher.domain.outcomes import (
    ClientRejected,
    GrantRejected,
    Misconfigured,
    NotSent,
    Outcome,
    OutcomeUnknown,
    RequestRejected,
    TooEarly,
    Transient,
)
from refresher.domain.shares import WHOLE, Share
from refresher.engine.admission import Admission, Settled
from refresher.engine.gate import FAILURES_TO_OPEN, LONGEST_PAUSE
from tests.domain.world import claimed, make_grant
from tests.engine.world import Lines
from tests.support.clients import changed
from tests.vault.world import NOW, FakeClock, answered, make_client

SUCCESS = answered("at")
THROTTLED = Transient(reason="throttled", status=429, retry_after=60.0)
UNAVAILABLE = Transient(reason="unavailable", status=503)
REFUSED = NotSent(reason="refused")
REJECTED = ClientRejected(error="invalid_client", status=401)

WIDE = make_client(concurrency=8)


def claim_of(grant_id: int = 1, **parts: Any) -> Claim:
    """A claim of the grant GRANT_ID."""
    return claimed(replace(make_grant(**parts), id=grant_id))


class Door:
    """An admission of some clients, and its clock, which draws 0 unless told otherwise."""

    def __init__(self, *clients: Client, share: Share = WHOLE) -> None:
        self.clock = FakeClock()
        self.clock.next_draw = 0.0
        known = {client.name: client for client in clients}
        self.admission = Admission(known, self.clock, lambda: share)
        self.settled: list[Settled | None] = []
        self._grants = 0

    def begin(self, client: Client, claim: Claim | None = None) -> Claim:
        """An exchange of CLIENT begins; each is of another grant unless CLAIM says."""
        self._grants += 1
        claim = claim or claim_of(self._grants)
        self.admission.begun(client, claim)
        return claim

    def end(self, client: Client, claim: Claim, outcome: Outcome | None) -> None:
        self.settled.append(self.admission.ended(client, claim, outcome))

    def pass_through(
        self, client: Client, *outcomes: Outcome | None, claim: Claim | None = None
    ) -> None:
        """Exchanges of CLIENT, one after the other, whether or not there is room."""
        for outcome in outcomes:
            self.end(client, self.begin(client, claim), outcome)

    @property
    def room(self) -> dict[str, int]:
        """Places by client, those aside that only a last chance may take."""
        rooms = self.admission.rooms()
        return {room.client: room.places for room in rooms if not room.only_replays}

    @property
    def chances(self) -> dict[str, float | None]:
        """Clients of which a last chance may be sent, and since when it must be one."""
        rooms = self.admission.rooms()
        return {room.client: room.replays_since for room in rooms if room.only_replays}

    def room_of(self, name: str = "crm") -> Room:
        [room] = [room for room in self.admission.rooms() if room.client == name]
        return room


def test_an_idle_client_may_use_its_concurrency() -> None:
    door = Door(WIDE, make_client("erp", concurrency=2))
    assert door.room == {"crm": 8, "erp": 2}
    assert door.admission.next_opening() is None


def test_exchanges_in_flight_take_room() -> None:
    client = make_client(concurrency=2)
    door = Door(client)
    first = door.begin(client)
    assert door.room == {"crm": 1}
    door.begin(client)
    assert door.room == {}
    door.end(client, first, SUCCESS)
    assert door.room == {"crm": 1}


def test_a_lowered_concurrency_gives_no_negative_room() -> None:
    door = Door(make_client(concurrency=1))
    for _ in range(3):
        door.begin(WIDE)
    assert door.room == {}


def test_a_rate_spreads_exchanges_over_time() -> None:
    client = make_client(rate=2.0, concurrency=100)
    door = Door(client)
    begun = 0
    for _ in range(100):
        for _ in range(door.room.get("crm", 0)):
            door.pass_through(client, SUCCESS)
            begun += 1
        door.clock.move(0.1)
    assert begun == pytest.approx(2 + 2.0 * 10, abs=1)


def test_a_rate_below_one_is_kept_too() -> None:
    client = make_client(rate=0.5, concurrency=100)
    door = Door(client)
    assert door.room == {"crm": 1}
    door.pass_through(client, SUCCESS)
    assert door.room == {}
    assert door.admission.next_opening() == 2
    door.clock.move(1.9)
    assert door.room == {}
    door.clock.move(0.1)
    assert door.room == {"crm": 1}


def test_an_idle_hour_saves_up_one_second() -> None:
    door = Door(make_client(rate=3.0, concurrency=100))
    assert door.room == {"crm": 3}
    door.clock.move(3600)
    assert door.room == {"crm": 3}


def test_a_clock_set_back_stops_no_rate() -> None:
    client = make_client(rate=1.0)
    door = Door(client)
    assert door.room == {"crm": 1}
    door.pass_through(client, SUCCESS)
    door.clock.step(-3600)
    assert door.room == {}
    door.clock.move(1.0)
    assert door.room == {"crm": 1}


@pytest.mark.parametrize(
    "outcome",
    [
        THROTTLED,
        OutcomeUnknown(reason="server error", status=503, retry_after=60.0),
    ],
    ids=["throttled", "server error"],
)
def test_a_retry_after_closes_the_endpoint(lines: Lines, outcome: Outcome) -> None:
    door = Door(WIDE)
    door.pass_through(WIDE, outcome)
    assert door.room == {}
    assert door.admission.next_opening() == 60
    [line] = lines.all()
    assert (line["event"], line["reason"], line["retry_s"]) == (
        "endpoint.suspended",
        "retry_after",
        60.0,
    )
    door.clock.move(59.9)
    assert door.room == {}
    door.clock.move(0.1)
    assert door.room == {"crm": 1}


def test_one_probe_reopens_the_endpoint(lines: Lines) -> None:
    door = Door(WIDE)
    door.pass_through(WIDE, THROTTLED)
    door.clock.move(60)
    probe = door.begin(WIDE)
    assert door.room == {}
    door.end(WIDE, probe, SUCCESS)
    assert door.room == {"crm": 8}
    assert door.settled == [None, Settled.ENDPOINT_ANSWERS]
    assert lines.events() == ["endpoint.suspended", "endpoint.resumed"]


def test_a_probe_that_fails_lets_one_more_try(lines: Lines) -> None:
    door = Door(WIDE)
    door.pass_through(WIDE, THROTTLED)
    door.clock.move(60)
    door.pass_through(WIDE, REFUSED)
    assert door.room == {"crm": 1}
    door.pass_through(WIDE, THROTTLED)
    assert door.room == {}
    assert lines.events() == ["endpoint.suspended"]


def test_a_retry_after_is_capped_and_spread() -> None:
    door = Door(WIDE)
    door.clock.next_draw = 0.5
    door.pass_through(WIDE, Transient(reason="throttled", status=429, retry_after=1e9))
    assert door.admission.next_opening() == pytest.approx(3600 * 1.05)


def test_a_later_shorter_wait_opens_nothing() -> None:
    door = Door(WIDE)
    door.pass_through(WIDE, THROTTLED, Transient(reason="x", status=429, retry_after=1.0))
    assert door.admission.next_opening() == 60


def test_a_late_success_does_not_undo_a_retry_after(lines: Lines) -> None:
    door = Door(WIDE)
    early = door.begin(WIDE)
    door.pass_through(WIDE, THROTTLED)
    door.end(WIDE, early, SUCCESS)
    assert door.room == {}
    assert door.admission.next_opening() == 60
    assert lines.events() == ["endpoint.suspended"]


@pytest.mark.parametrize(
    "outcome",
    [REFUSED, UNAVAILABLE, OutcomeUnknown(reason="timeout"), None],
    ids=["not sent", "unavailable", "unknown", "broken"],
)
def test_a_failing_endpoint_is_left_alone(lines: Lines, outcome: Outcome | None) -> None:
    door = Door(WIDE)
    door.pass_through(WIDE, *[outcome] * (FAILURES_TO_OPEN - 1))
    assert door.room == {"crm": 8}
    door.pass_through(WIDE, outcome)
    assert door.room == {}
    [line] = lines.all()
    assert (line["event"], line["reason"]) == ("endpoint.suspended", "failing")
    opening = door.admission.next_opening()
    assert opening is not None
    assert 0 < opening <= LONGEST_PAUSE


def test_pauses_grow_to_their_longest(lines: Lines) -> None:
    door = Door(WIDE)
    door.clock.next_draw = 1.0
    door.pass_through(WIDE, *[REFUSED] * (FAILURES_TO_OPEN - 1))
    pauses = []
    for _ in range(12):
        door.pass_through(WIDE, REFUSED)
        opening = door.admission.next_opening()
        assert opening is not None
        pauses.append(opening)
        door.clock.move(pauses[-1])
    assert pauses == pytest.approx([1.0, 2.0, 4.0, 8.0, 16.0, *[LONGEST_PAUSE] * 7])
    assert lines.events() == ["endpoint.suspended"]


def test_what_was_out_when_an_endpoint_closed_lengthens_no_pause() -> None:
    """Eight exchanges that fail together are one moment, not eight."""
    door = Door(WIDE)
    door.clock.next_draw = 1.0
    claims = [door.begin(WIDE) for _ in range(8)]
    for claim in claims:
        door.end(WIDE, claim, UNAVAILABLE)
    assert door.admission.next_opening() == 1.0
    door.clock.move(1.0)
    assert len(door.room_of().last) == 8
    door.pass_through(WIDE, UNAVAILABLE)
    assert door.admission.next_opening() == 2.0


def test_an_endpoint_in_doubt_is_probed_by_whom_it_served_last() -> None:
    door = Door(WIDE)
    assert not door.room_of().is_probe
    door.pass_through(WIDE, *[UNAVAILABLE] * FAILURES_TO_OPEN)
    door.clock.move(LONGEST_PAUSE)
    assert door.room_of().is_probe


@pytest.mark.parametrize(("lifetime", "longest"), [(3600, 30.0), (60, 6.0), (20, 2.0), (1, 1.0)])
def test_pauses_fit_the_life_of_the_tokens(lifetime: float, longest: float) -> None:
    """For two lives: then there is no token left that they could cost."""
    door = Door(WIDE)
    door.clock.next_draw = 1.0
    door.pass_through(WIDE, answered("at", expires_in=lifetime))
    pauses = []
    for _ in range(FAILURES_TO_OPEN + 25):
        door.pass_through(WIDE, UNAVAILABLE)
        pauses.append(door.admission.next_opening() or 0.0)
        door.clock.move(pauses[-1])
    assert max(pauses[: FAILURES_TO_OPEN + 15]) == pytest.approx(longest)
    assert max(pauses) == pytest.approx(LONGEST_PAUSE)


def test_a_success_forgives_earlier_failures() -> None:
    door = Door(WIDE)
    for _ in range(3):
        door.pass_through(WIDE, *[REFUSED] * (FAILURES_TO_OPEN - 1), SUCCESS)
    assert door.room == {"crm": 8}


@pytest.mark.parametrize(
    "outcome",
    [
        GrantRejected(error="invalid_grant", status=400),
        Misconfigured(error="invalid_scope", status=400),
        RequestRejected(error="invalid_request", status=400),
    ],
    ids=["grant rejected", "misconfigured", "request rejected"],
)
def test_a_rejected_grant_speaks_for_the_endpoint(outcome: Outcome) -> None:
    """A server that refuses one grant is at work: no reason to spare it."""
    door = Door(WIDE)
    door.pass_through(WIDE, *[outcome] * 20)
    assert door.room == {"crm": 8}


def test_one_word_against_a_client_is_settled_by_the_next_grant(lines: Lines) -> None:
    """One exchange at a time, the accuser last, and nothing is believed yet."""
    door = Door(WIDE)
    accuser = claim_of(1)
    door.pass_through(WIDE, REJECTED, claim=accuser)
    room = door.room_of()
    assert (room.places, room.is_probe, room.last) == (1, True, frozenset({1}))
    assert (room.failing, room.doubted) == (0, 0)
    assert lines.all() == []
    witness = door.begin(WIDE, claim_of(2))
    assert door.room == {}
    door.end(WIDE, witness, SUCCESS)
    assert door.settled[-1] is Settled.CLIENT_ACCEPTED
    assert door.room == {"crm": 8}
    assert lines.all() == []


@pytest.mark.parametrize(
    "outcome",
    [GrantRejected(error="invalid_grant", status=400), TooEarly(error="x", status=400)],
    ids=["grant rejected", "too early"],
)
def test_a_refusal_that_takes_an_accepted_client_settles_it_too(outcome: Outcome) -> None:
    door = Door(WIDE)
    door.pass_through(WIDE, REJECTED)
    door.pass_through(WIDE, outcome)
    assert door.settled[-1] is Settled.CLIENT_ACCEPTED


@pytest.mark.parametrize(
    "outcome",
    [REFUSED, UNAVAILABLE, OutcomeUnknown(reason="timeout"), None],
    ids=["not sent", "unavailable", "unknown", "broken"],
)
def test_what_says_nothing_of_the_client_settles_nothing(outcome: Outcome | None) -> None:
    door = Door(WIDE)
    door.pass_through(WIDE, REJECTED, outcome)
    assert door.settled == [None, None]
    assert door.room == {"crm": 1}


def test_answers_to_what_was_out_before_are_no_evidence(lines: Lines) -> None:
    """They came with the same secret at the same time; the server may have been mended since."""
    door = Door(WIDE)
    others = [door.begin(WIDE, claim_of(n)) for n in (2, 3)]
    door.pass_through(WIDE, REJECTED, claim=claim_of(1))
    assert door.room == {}
    door.end(WIDE, others[0], SUCCESS)
    door.end(WIDE, others[1], REJECTED)
    assert door.settled == [None, None, None]
    assert door.room == {"crm": 1}
    assert door.room_of().last == {1, 3}
    assert lines.all() == []


def test_a_second_grant_refused_rejects_the_client(lines: Lines) -> None:
    door = Door(WIDE)
    door.pass_through(WIDE, REJECTED, REJECTED)
    assert door.room == {}
    [line] = lines.all()
    assert (line["event"], line["level"], line["error_code"]) == (
        "client.rejected",
        "error",
        "invalid_client",
    )
    for candidate in ("client_secret", "client_authentication", "encode_basic", "placement"):
        assert candidate in line["repair"]


def test_the_only_grant_of_a_client_rejects_it_the_second_time(lines: Lines) -> None:
    door = Door(WIDE)
    only = claim_of(1)
    door.pass_through(WIDE, REJECTED, REJECTED, claim=only)
    assert lines.events() == ["client.rejected"]


def asked_for(claim: Claim) -> Claim:
    """CLAIM as it is where a person asked for the refresh."""
    return replace(claim, grant=replace(claim.grant, due_at=NOW, requested_at=NOW))


def test_a_person_who_asks_the_accused_again_rejects_no_client(lines: Lines) -> None:
    door = Door(WIDE)
    only = claim_of(1)
    door.pass_through(WIDE, REJECTED, claim=only)
    door.pass_through(WIDE, REJECTED, REJECTED, claim=asked_for(only))
    assert lines.events() == []
    assert door.room == {"crm": 1}
    door.pass_through(WIDE, REJECTED, claim=only)
    assert lines.events() == ["client.rejected"]


def test_a_person_who_asks_another_grant_learns_something(lines: Lines) -> None:
    door = Door(WIDE)
    door.pass_through(WIDE, REJECTED)
    door.pass_through(WIDE, REJECTED, claim=asked_for(claim_of(2)))
    assert lines.events() == ["client.rejected"]


def test_an_accused_grant_that_is_asked_for_and_served_acquits_the_client() -> None:
    door = Door(WIDE)
    only = claim_of(1)
    door.pass_through(WIDE, REJECTED, claim=only)
    door.pass_through(WIDE, answered("at"), claim=asked_for(only))
    assert door.settled[-1] is Settled.CLIENT_ACCEPTED


def test_probes_of_a_rejected_client_take_turns_and_grow_rare(lines: Lines) -> None:
    door = Door(WIDE)
    door.clock.next_draw = 0.5
    door.pass_through(WIDE, REJECTED)
    pauses = []
    for _ in range(6):
        door.pass_through(WIDE, REJECTED)
        opening = door.admission.next_opening()
        assert opening is not None
        pauses.append(opening)
        door.clock.move(opening)
        assert door.room == {"crm": 1}
        assert len(door.room_of().last) == len(pauses) + 1
    assert pauses == pytest.approx([66.0, 132.0, 264.0, 528.0, 600.0, 600.0])
    door.pass_through(WIDE, SUCCESS)
    assert door.settled[-1] is Settled.CLIENT_ACCEPTED
    assert door.room == {"crm": 8}
    assert lines.events() == ["client.rejected", "client.recovered"]


def test_a_client_that_proved_itself_is_probed_soon() -> None:
    """``unauthorized_client`` spends no refresh token, and may be one account's word."""
    door = Door(WIDE)
    word = ClientRejected(error="unauthorized_client", status=400)
    door.pass_through(WIDE, word, word)
    assert door.admission.next_opening() == 5


@pytest.mark.parametrize(("lifetime", "within"), [(3600, 60), (300, 20), (20, 3)])
def test_a_healthy_grant_behind_eight_refused_is_asked_in_time(
    lifetime: float, within: float
) -> None:
    """All were due at once. The lead of a refresh, not patience, is what there is of time."""
    door = Door(WIDE)
    word = ClientRejected(error="unauthorized_client", status=403)
    began = door.clock.monotonic()
    for number in range(8):
        claim = claim_of(number, issued_at=NOW, expires_at=NOW + lifetime)
        door.pass_through(WIDE, word, claim=claim)
        door.clock.move(door.admission.next_opening() or 0.0)
    assert door.clock.monotonic() - began < within
    door.pass_through(WIDE, SUCCESS)
    assert door.settled[-1] is Settled.CLIENT_ACCEPTED


def test_a_client_that_nobody_may_use_is_left_in_peace_all_the_same() -> None:
    door = Door(WIDE)
    word = ClientRejected(error="unauthorized_client", status=403)
    began, probes = door.clock.monotonic(), 0
    while door.clock.monotonic() - began < 86_400:
        door.pass_through(WIDE, word, claim=claim_of(probes))
        door.clock.move(door.admission.next_opening() or 0.0)
        probes += 1
    assert probes < 86_400 / 300 + 20


def test_a_word_told_apart_asks_nobody_any_more(lines: Lines) -> None:
    door = Door(WIDE)
    own = claim_of(1, reason="not_authorized:invalid_client", fault=Fault.GRANT)
    assert door.admission.blame(WIDE, own, REJECTED) is Fault.GRANT
    door.pass_through(WIDE, *[REJECTED] * 5, claim=own)
    assert door.room == {"crm": 8}
    assert lines.all() == []


def test_the_first_word_is_the_clients_until_it_is_settled() -> None:
    door = Door(WIDE)
    assert door.admission.blame(WIDE, claim_of(1), REJECTED) is Fault.CLIENT


def test_a_mended_client_starts_afresh() -> None:
    door = Door(WIDE)
    door.pass_through(WIDE, REJECTED, REJECTED)
    door.admission.forget(WIDE)
    assert door.room == {"crm": 8}
    door.pass_through(WIDE, *[REFUSED] * (FAILURES_TO_OPEN - 1))
    assert door.room == {"crm": 8}


def test_a_mended_client_is_told_as_recovered_once_it_is_served(lines: Lines) -> None:
    door = Door(WIDE)
    door.pass_through(WIDE, REJECTED, REJECTED)
    door.admission.forget(WIDE)
    assert lines.events() == ["client.rejected"]
    door.pass_through(WIDE, SUCCESS, SUCCESS)
    assert lines.events() == ["client.rejected", "client.recovered"]


def test_a_client_mended_wrongly_is_told_as_rejected_again(lines: Lines) -> None:
    door = Door(WIDE)
    door.pass_through(WIDE, REJECTED, REJECTED)
    door.admission.forget(WIDE)
    door.pass_through(WIDE, REJECTED, REJECTED)
    door.admission.forget(WIDE)
    door.pass_through(WIDE, SUCCESS)
    assert lines.events() == ["client.rejected", "client.rejected", "client.recovered"]


def test_clients_of_other_endpoints_go_on() -> None:
    erp = make_client("erp", concurrency=8)
    door = Door(WIDE, erp)
    door.pass_through(WIDE, THROTTLED)
    assert door.room == {"erp": 8}
    door.pass_through(erp, REJECTED, REJECTED)
    assert door.room == {}
    assert door.admission.next_opening() == 60


def test_clients_that_share_an_application_share_its_room() -> None:
    """Two entries of the settings, one registered client: its server counts them as one."""
    twin = changed(WIDE, name="twin", concurrency=3)
    door = Door(WIDE, twin)
    totals = [dict(door.room) for _ in range(2)]
    assert [sum(total.values()) for total in totals] == [3, 3]
    assert totals[0] != totals[1]
    door.begin(WIDE)
    door.begin(twin)
    names = [list(door.room) for _ in range(2)]
    assert sorted(names) == [["crm"], ["twin"]]


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
def test_a_stepped_clock_neither_opens_nor_closes(step: float) -> None:
    door = Door(WIDE)
    door.pass_through(WIDE, THROTTLED)
    door.clock.step(step)
    assert door.room == {}
    assert door.admission.next_opening() == 60
    door.clock.move(60)
    assert door.room == {"crm": 1}


def storm(door: Door, client: Client, *, allowed: float, seconds: float) -> tuple[int, int]:
    """Exchanges taken and refused of a crowd, at a server that takes ALLOWED a second."""
    tokens = allowed
    taken = refused = 0
    for _ in range(round(seconds / 0.01)):
        tokens = min(allowed, tokens + allowed * 0.01)
        for _ in range(door.room.get(client.name, 0)):
            claim = door.begin(client)
            if tokens >= 1:
                tokens, taken = tokens - 1, taken + 1
                door.end(client, claim, SUCCESS)
            else:
                refused += 1
                door.end(client, claim, replace(THROTTLED, retry_after=1.0))
        door.clock.move(0.01)
    return taken, refused


@pytest.mark.parametrize("allowed", [2.0, 20.0, 100.0])
def test_a_pace_is_learned_from_refusals(allowed: float) -> None:
    """A crowd gets nearly all that the server gives, and is refused now and then only."""
    door = Door(make_client(concurrency=8))
    taken, refused = storm(door, make_client(concurrency=8), allowed=allowed, seconds=120)
    assert taken > 0.75 * allowed * 120
    assert refused < 0.03 * taken + 25


def test_a_learned_pace_is_forgotten_in_peace() -> None:
    client = make_client(concurrency=8)
    door = Door(client)
    storm(door, client, allowed=2.0, seconds=30)
    assert sum(door.room.values()) < 8
    door.clock.move(700)
    door.pass_through(client, SUCCESS)
    assert door.room == {"crm": 8}


def test_a_lone_refusal_teaches_no_pace() -> None:
    """An hour's Retry-After after one success is an incident, not one exchange an hour."""
    door = Door(WIDE)
    door.pass_through(WIDE, SUCCESS, replace(THROTTLED, retry_after=3600.0))
    door.clock.move(3600)
    door.pass_through(WIDE, SUCCESS)
    assert door.room == {"crm": 8}


def test_a_last_chance_is_offered_to_one_at_a_time() -> None:
    grace = make_client(rotation="grace(100)", concurrency=8)
    door = Door(grace, make_client("erp"))
    assert door.chances == {}
    door.pass_through(grace, THROTTLED)
    door.pass_through(make_client("erp"), THROTTLED)
    assert door.chances == {"crm": NOW - 66}
    door.begin(grace)
    assert door.chances == {}


def test_a_rejected_client_has_no_last_chance() -> None:
    grace = make_client(rotation="grace(100)")
    door = Door(grace)
    door.pass_through(grace, REJECTED, REJECTED)
    assert door.chances == {}


@pytest.mark.parametrize(
    "outcome",
    [
        OutcomeUnknown(reason="http_500", status=500),
        OutcomeUnknown(reason="timeout"),
        Transient(reason="http_400", status=400, is_own_word=False),
    ],
    ids=["500", "timeout", "empty 400"],
)
def test_one_grants_failures_close_no_endpoint(outcome: Outcome) -> None:
    door = Door(WIDE)
    door.pass_through(WIDE, *[outcome] * 20, claim=claim_of(1))
    assert door.room == {"crm": 8}


def test_grants_that_fail_while_others_are_served_close_no_endpoint(lines: Lines) -> None:
    """Six dead accounts among four living ones, at a server that says 500 to the dead."""
    door = Door(WIDE)
    broken = OutcomeUnknown(reason="http_500", status=500)
    dead = [claim_of(n) for n in range(10, 16)]
    for claim in dead[:4]:
        door.pass_through(WIDE, broken, claim=claim)
    assert door.admission.blame(WIDE, dead[0], broken) is Fault.ENDPOINT
    door.pass_through(WIDE, SUCCESS)
    assert door.admission.blame(WIDE, dead[0], broken) is Fault.GRANT
    for _ in range(10):
        for claim in dead[:4]:
            door.pass_through(WIDE, broken, claim=claim)
    assert door.room == {"crm": 8}
    assert lines.all() == []


def test_a_throttle_is_the_endpoints_whoever_it_hits() -> None:
    door = Door(WIDE)
    claim = claim_of(1)
    door.pass_through(WIDE, UNAVAILABLE, claim=claim)
    door.pass_through(WIDE, SUCCESS)
    assert door.admission.blame(WIDE, claim, THROTTLED) is Fault.ENDPOINT


def test_who_closed_an_endpoint_probes_it_last() -> None:
    door = Door(WIDE)
    for number in range(FAILURES_TO_OPEN):
        door.pass_through(WIDE, REFUSED, claim=claim_of(number))
    door.clock.move(LONGEST_PAUSE)
    assert door.room_of().last == set(range(FAILURES_TO_OPEN))
    door.pass_through(WIDE, SUCCESS)
    assert door.room_of().last == frozenset()


@pytest.mark.parametrize(("concurrency", "failing"), [(1, 1), (7, 1), (8, 1), (16, 2), (64, 8)])
def test_failing_grants_have_an_eighth_and_never_none(concurrency: int, failing: int) -> None:
    client = make_client(concurrency=concurrency)
    door = Door(client)
    assert door.room_of().failing == failing
    for _ in range(failing):
        door.begin(client, claim_of(1, fault=Fault.GRANT))
    if concurrency > failing:
        assert door.room_of().failing == 0
        assert door.room_of().places == concurrency - failing


def test_doubted_grants_share_one_place() -> None:
    door = Door(WIDE)
    assert door.room_of().doubted == 1
    doubted = door.begin(WIDE, claim_of(1, refused_at=NOW))
    assert door.room_of().doubted == 0
    door.end(WIDE, doubted, GrantRejected(error="invalid_grant", status=400))
    assert door.room_of().doubted == 1


def test_every_gate_has_a_worker_of_its_own() -> None:
    erp = make_client("erp", concurrency=8)
    door = Door(WIDE, erp)
    assert door.admission.gates == 2
    slow = [door.begin(WIDE) for _ in range(4)]
    assert door.admission.shared_in_use == 3
    assert not door.room_of("crm").has_reserve
    assert door.room_of("erp").has_reserve
    door.admission.freed(WIDE)
    assert door.admission.shared_in_use == 2
    assert door.room == {"crm": 4, "erp": 8}, "a late answer keeps its client's place"
    door.admission.ended(WIDE, slow[0], SUCCESS, was_late=True)
    assert door.room == {"crm": 5, "erp": 8}


def test_what_waited_for_an_endpoint_comes_at_its_pace() -> None:
    door = Door(WIDE)
    assert door.admission.pause_between(WIDE) == pytest.approx(0.05)
    assert door.admission.pause_between(make_client(rate=2.0)) == pytest.approx(0.5)
    twin = changed(WIDE, name="twin")
    assert Door(WIDE, twin).admission.sharing(twin) == ["crm", "twin"]


def test_a_want_of_descriptors_is_told_once_and_closes_no_endpoint(lines: Lines) -> None:
    door = Door(WIDE)
    lack = NotSent(reason="no_descriptors")
    door.pass_through(WIDE, *[lack] * 20)
    assert door.room == {"crm": 8}
    assert lines.events() == ["descriptors.exhausted"]
    assert "LimitNOFILE" in lines.all()[0]["repair"]
    door.pass_through(WIDE, REFUSED, lack)
    assert len(lines.all()) == 1, "a refused connection does not tell that there are some again"
    door.pass_through(WIDE, SUCCESS, lack)
    assert len(lines.all()) == 2


@pytest.mark.parametrize("rate", [0.4, 1.0, 2.0, 5.0])
def test_three_replicas_stay_below_the_limit_of_one(rate: float) -> None:
    """Sent as fast as each of them lets it, for a minute: at most what one would send."""
    client = make_client(rate=rate, concurrency=4)
    doors = [Door(client, share=Share(3, place)) for place in range(3)]
    assert sum(door.room.get("crm", 0) for door in doors) <= max(int(rate), 1)
    sent = 0
    for _ in range(600):
        for door in doors:
            begun = [door.begin(client) for _ in range(door.room.get("crm", 0))]
            assert len(begun) <= 4
            for claim in begun:
                door.end(client, claim, SUCCESS)
            sent += len(begun)
            door.clock.move(0.1)
    assert rate * 60 * 0.9 <= sent <= rate * 60 + max(rate, 1.0)


def test_three_replicas_share_the_places_of_one() -> None:
    doors = [Door(WIDE, share=Share(3, place)) for place in range(3)]
    assert sorted(door.room["crm"] for door in doors) == [2, 3, 3]


def test_a_replica_without_a_share_waits_for_nothing() -> None:
    client = make_client(rate=1.0, concurrency=1)
    doors = [Door(client, share=Share(3, place)) for place in range(3)]
    assert len([door.begin(client) for door in doors if door.room]) == 1
    assert [door.room for door in doors] == [{}, {}, {}]
    assert [door.admission.next_opening() is None for door in doors].count(False) == 1
