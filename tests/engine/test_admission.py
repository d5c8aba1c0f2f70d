"""Admission: concurrency, rate, and the breaker that all grants of an endpoint share."""

from dataclasses import replace

import pytest

from refresher.domain.clients import Client
from refresher.domain.outcomes import (
    ClientRejected,
    GrantRejected,
    Misconfigured,
    NotSent,
    Outcome,
    OutcomeUnknown,
    RequestRejected,
    Transient,
)
from refresher.engine.admission import FAILURES_TO_OPEN, LONGEST_PAUSE, Admission
from tests.engine.world import FakeClock, Lines
from tests.vault.world import NOW, answered, make_client

SUCCESS = answered("at")
THROTTLED = Transient(reason="throttled", status=429, retry_after=60.0)
UNAVAILABLE = Transient(reason="unavailable", status=503)
REFUSED = NotSent(reason="refused")
REJECTED = ClientRejected(error="invalid_client", status=401)

WIDE = make_client(concurrency=8)


class Door:
    """An admission of some clients, and its clock, which draws 0 unless told otherwise."""

    def __init__(self, *clients: Client) -> None:
        self.clock = FakeClock()
        self.clock.next_draw = 0.0
        self.admission = Admission({client.name: client for client in clients}, self.clock)

    def pass_through(self, client: Client, *outcomes: Outcome | None) -> None:
        """Exchanges of CLIENT, one after the other, whether or not there is room."""
        for outcome in outcomes:
            self.admission.begun(client)
            self.admission.ended(client, outcome)

    @property
    def room(self) -> dict[str, int]:
        return self.admission.room()


def test_an_idle_client_may_use_its_concurrency() -> None:
    door = Door(WIDE, make_client("erp", concurrency=2))
    assert door.room == {"crm": 8, "erp": 2}
    assert door.admission.next_opening() is None


def test_exchanges_in_flight_take_room() -> None:
    client = make_client(concurrency=2)
    door = Door(client)
    door.admission.begun(client)
    assert door.room == {"crm": 1}
    door.admission.begun(client)
    assert door.room == {}
    door.admission.ended(client, SUCCESS)
    assert door.room == {"crm": 1}


def test_a_lowered_concurrency_gives_no_negative_room() -> None:
    door = Door(make_client(concurrency=1))
    for _ in range(3):
        door.admission.begun(WIDE)
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
    door.admission.begun(WIDE)
    assert door.room == {}
    door.admission.ended(WIDE, SUCCESS)
    assert door.room == {"crm": 8}
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
    door.admission.begun(WIDE)
    door.pass_through(WIDE, THROTTLED)
    door.admission.ended(WIDE, SUCCESS)
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


def test_a_rejected_client_is_probed_rarely(lines: Lines) -> None:
    door = Door(WIDE)
    door.clock.next_draw = 0.5
    door.pass_through(WIDE, REJECTED)
    assert door.room == {}
    assert door.admission.next_opening() == 600
    [line] = lines.all()
    assert (line["event"], line["level"], line["error_code"]) == (
        "client.rejected",
        "error",
        "invalid_client",
    )
    assert line["repair"] == "correct client crm in the settings, then send SIGHUP"
    door.clock.move(600)
    assert door.room == {"crm": 1}
    door.pass_through(WIDE, REJECTED)
    door.clock.move(600)
    door.pass_through(WIDE, SUCCESS)
    assert door.room == {"crm": 8}
    assert lines.events() == ["client.rejected", "client.recovered"]


def test_a_mended_client_starts_afresh() -> None:
    door = Door(WIDE)
    door.pass_through(WIDE, REJECTED)
    door.admission.forget(WIDE)
    assert door.room == {"crm": 8}
    door.pass_through(WIDE, *[REFUSED] * (FAILURES_TO_OPEN - 1))
    assert door.room == {"crm": 8}


def test_clients_of_other_endpoints_go_on() -> None:
    erp = make_client("erp", concurrency=8)
    door = Door(WIDE, erp)
    door.pass_through(WIDE, THROTTLED)
    assert door.room == {"erp": 8}
    door.pass_through(erp, REJECTED)
    assert door.room == {}
    assert door.admission.next_opening() == 60


def test_clients_that_share_an_application_share_its_room() -> None:
    """Two entries of the settings, one registered client: its server counts them as one."""
    twin = replace(WIDE, name="twin", concurrency=3)
    door = Door(WIDE, twin)
    totals = [dict(door.room) for _ in range(2)]
    assert [sum(total.values()) for total in totals] == [3, 3]
    assert totals[0] != totals[1]
    door.admission.begun(WIDE)
    door.admission.begun(twin)
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
            door.admission.begun(client)
            if tokens >= 1:
                tokens, taken = tokens - 1, taken + 1
                door.admission.ended(client, SUCCESS)
            else:
                refused += 1
                door.admission.ended(client, replace(THROTTLED, retry_after=1.0))
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
    assert door.admission.last_chances() == {}
    door.pass_through(grace, THROTTLED)
    door.pass_through(make_client("erp"), THROTTLED)
    assert door.admission.last_chances() == {"crm": NOW - 66}
    door.admission.begun(grace)
    assert door.admission.last_chances() == {}


def test_a_rejected_client_has_no_last_chance() -> None:
    grace = make_client(rotation="grace(100)")
    door = Door(grace)
    door.pass_through(grace, REJECTED)
    assert door.admission.last_chances() == {}
