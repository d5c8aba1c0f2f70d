"""``status``: what comes first, how rows fit, what a live view shows, and one grant in words."""

import re
from dataclasses import replace
from itertools import chain
from typing import Any

import click
import pytest

from refresher.app.looks import full_view
from refresher.app.views import view as answer_of
from refresher.cli.status import asking, drawing, watch
from refresher.cli.status.asking import Asked
from refresher.cli.status.single import page
from refresher.cli.status.wording import advice, needs_person, order, total, urgency
from refresher.domain.clients import UnknownOutcome
from refresher.domain.grants import (
    Answer,
    Fault,
    Grant,
    GrantKind,
    GrantState,
    Intent,
    Rejection,
)
from refresher.domain.reasons import Reason
from refresher.domain.renewal import Terms
from refresher.errors import ControlUnavailable
from refresher.vault.listing import Details, KeptCount
from tests.vault.world import make_client

NOW = 1_800_000_000.0

KINDS: list[dict[str, Any]] = [
    {"state": GrantState.REAUTHORIZATION_REQUIRED, "reason": "revoked:invalid_grant",
     "served_at": NOW, "due_at": None},
    {"state": GrantState.REAUTHORIZATION_REQUIRED, "reason": "rotation_lost:invalid_grant"},
    {"state": GrantState.PENDING, "reason": Reason.AWAITING_LOGIN,
     "refresh_token_fingerprint": None},
    {"state": GrantState.FRESH, "reason": "refused:invalid_grant", "failures": 1},
    {"state": GrantState.EXPIRED, "reason": "unreachable:dns", "failures": 9},
    {"state": GrantState.DEGRADED, "reason": "client_rejected:invalid_client", "failures": 2},
    {"state": GrantState.FRESH, "reason": "unexplained:http_404", "failures": 3,
     "failing_since": NOW - 90},
    {"state": GrantState.PAUSED, "reason": Reason.OUTCOME_UNKNOWN, "due_at": None},
    {"state": GrantState.PENDING, "reason": Reason.AWAITING_REFRESH},
    {"state": GrantState.FRESH, "reason": Reason.NO_REFRESH_TOKEN},
    {"state": GrantState.FRESH},
]  # fmt: skip
"""Of every urgency some grant, in the order in which they are to be read."""


def grant(number: int = 0, **parts: Any) -> Grant:
    """A grant whose name has forty characters."""
    usual: dict[str, Any] = {
        "name": f"account-{number:02}-".ljust(40, "n"),
        "client": "crm",
        "state": GrantState.FRESH,
        "refresh_token_fingerprint": b"x",
        "since": NOW - 9000,
        "expires_at": NOW + 600 - number,
        "due_at": NOW + 300,
    }
    whole = usual | parts
    return Grant(id=number, uid="", kind=GrantKind.REFRESHABLE, origin="runtime", **whole)


def view_of(shown: Grant) -> dict[str, Any]:
    """As it came over the socket."""
    return dict(answer_of(shown))


def fourteen() -> list[dict[str, Any]]:
    kinds = [*KINDS, *KINDS[:3]]
    found = [view_of(grant(number, **kind)) for number, kind in enumerate(kinds)]
    found[4]["labels"] = {"team": "payments"}
    return sorted(found, key=order)


def test_what_needs_somebody_comes_first() -> None:
    urgencies = [urgency(view_of(grant(**kind))) for kind in KINDS]
    assert urgencies == sorted(urgencies)
    assert set(urgencies) == set(type(urgencies[0]))
    waiting = [needs_person(view_of(grant(**kind))) for kind in KINDS]
    assert waiting == [True, True, True, False, False, False, False, True, False, False, False]


def test_among_equals_the_soonest_end_comes_first() -> None:
    ends = [None, NOW + 9, NOW + 5, NOW - 5]
    views = [view_of(grant(number, expires_at=end)) for number, end in enumerate(ends)]
    assert [view["expires_at"] for view in sorted(views, key=order)] == ends[::-1]


@pytest.mark.parametrize("width", [80, 120])
def test_fourteen_long_names_fit(width: int) -> None:
    views = fourteen()
    heading, blocks = drawing.table(views, NOW, width)
    lines = [click.unstyle(line) for line in chain([heading], *blocks)]
    assert len(blocks) == 14
    assert max(map(len, lines)) <= width
    assert ("CLIENT" in heading) is (width == 120)
    for view, block in zip(views, blocks, strict=True):
        assert click.unstyle(block[0]).split()[0] == view["name"]
        assert view["state"] in click.unstyle(block[0]).split()
        commands = re.findall(rf"refresher [a-z -]+ {view['name']}", view["repair"] or "")
        for command in commands:
            assert f"    {command}" in block
        words = " ".join(click.unstyle(" ".join(block[1:])).split())
        for part in re.split(r"[;,]? *refresher [a-z -]+ \S+ *[;,]? *", view["repair"] or ""):
            assert part in words


def test_labels_go_where_it_is_narrow() -> None:
    views = fourteen()
    assert "team=payments" in "".join(chain(*drawing.table(views, NOW, 120)[1]))
    assert "LABELS" not in drawing.table(views, NOW, 90)[0]
    assert "team=payments" in "".join(chain(*drawing.table(views, NOW, None)[1]))


def test_a_name_longer_than_its_column_stands_alone() -> None:
    long, short = view_of(grant(1, name="n" * 128)), view_of(grant(2, name="short"))
    heading, [first, second] = drawing.table([long, short], NOW, 80)
    assert first[0] == "n" * 128
    assert click.unstyle(first[1]).split()[0] == "crm"
    assert click.unstyle(first[1]).index("fresh") == click.unstyle(heading).index("STATE")
    assert len(second) == 1


def test_a_command_is_never_wrapped() -> None:
    lost = view_of(grant(name="n" * 60, **KINDS[0]))
    [block] = drawing.table([lost], NOW, 80)[1]
    assert f"    refresher refresh --lost {'n' * 60}" in block


def test_wide_letters_take_two_columns() -> None:
    views = [view_of(grant(1, name="a", labels={"x": "東京"}))]
    [block] = drawing.table(views, NOW, 80)[1]
    assert drawing.columns(click.unstyle(block[0])) == len(click.unstyle(block[0])) + 2


@pytest.mark.parametrize(
    ("repair", "parts"),
    [
        ("refresher login a", [("refresher login a", True)]),
        (
            "refresher login a; if the server was wrong: refresher refresh --lost a",
            [("refresher login a", True), ("if the server was wrong:", False),
             ("refresher refresh --lost a", True)],
        ),
        ("refresher login abc or so", [("refresher login abc or so", False)]),
        (
            "refresher vault restore FILE, or: refresher remove a, then refresher login a",
            [("refresher vault restore FILE", True), ("or:", False),
             ("refresher remove a", True), ("then", False), ("refresher login a", True)],
        ),
    ],
)  # fmt: skip
def test_a_command_stands_alone(repair: str, parts: list[tuple[str, bool]]) -> None:
    view = view_of(grant(name="a")) | {"repair": repair}
    assert list(advice(view, NOW)) == parts


def test_all_grants_are_one_line() -> None:
    totals = {"fresh": 9, "paused": 2, "reauthorization_required": 3, "damaged": 1}
    assert total(totals) == "15 grants: 1 damaged, 3 reauthorization_required, 2 paused, 9 fresh"
    assert total({"fresh": 1}) == "1 grant: 1 fresh"


class Daemon:
    """Answers the questions of ``status`` from VIEWS."""

    def __init__(self, views: list[dict[str, Any]]) -> None:
        self.views = views
        self.asked: list[str] = []

    async def call(self, operation: str, /, **parameters: Any) -> Any:
        self.asked.append(operation)
        if operation == "revocations":
            return {"revocations": [], "next": None}
        found = [view for view in self.views if parameters.get("state") in {None, view["state"]}]
        if operation == "overview":
            totals: dict[str, int] = {}
            for view in found:
                totals[view["state"]] = totals.get(view["state"], 0) + 1
            return {"totals": totals, "grants": found[: parameters["limit"]]}
        assert operation == "grants"
        found = [view for view in found if view["name"] > parameters.get("after", "")]
        some = found[: parameters.get("limit", 5)]
        return {"grants": some, "next": some[-1]["name"] if len(some) < len(found) else None}


@pytest.mark.parametrize("height", [3, 6, 24, 100])
async def test_a_live_view_is_no_taller_than_the_terminal(height: int) -> None:
    daemon: Any = Daemon(fourteen())
    lines = await watch.frame(daemon, Asked(), NOW, 80, height)
    assert len(lines) <= height
    assert max(len(click.unstyle(line)) for line in lines) <= 80
    shown = sum(line.startswith("account") for line in map(click.unstyle, lines))
    more = re.fullmatch(r"and (\d+) more", lines[-1])
    assert shown + (int(more[1]) if more else 0) == 14
    assert (more is None) is (height == 100)


async def test_a_live_view_waits_for_a_daemon() -> None:
    class Away:
        async def call(self, *_: Any, **__: Any) -> Any:
            raise ControlUnavailable("nobody")

    away: Any = Away()
    [line] = await watch.frame(away, Asked(), NOW, 80, 24)
    assert line == "2027-01-15T08:00:00Z  no daemon is running: nothing is being refreshed"


async def test_a_list_begins_with_the_most_urgent_states() -> None:
    daemon = Daemon(sorted(fourteen(), key=lambda view: view["name"]))
    pages = [page async for page in asking.grants(daemon.call, Asked(everything=True))]
    states = [view["state"] for page in pages for view in page]
    ranks = [[one.value for one in asking.IN_ORDER].index(state) for state in states]
    assert len(states) == 14
    assert ranks == sorted(ranks)
    only = [page async for page in asking.grants(daemon.call, Asked(state="paused"))]
    assert [view["state"] for page in only for view in page] == ["paused"]


async def test_a_login_that_is_awaited_is_found_among_many_pending() -> None:
    """The overview holds some of each kind: the exit code tells of all."""
    pending = [view_of(grant(number, **KINDS[8])) for number in range(20)]
    daemon = Daemon([*pending, view_of(grant(20, **KINDS[2]))])
    seen = await asking.overview(daemon.call, Asked(), 5)
    assert seen.needs_person
    assert not (await asking.overview(Daemon(pending).call, Asked(), 5)).needs_person


STRICT = make_client(rotation="strict", scope=("r", "w"))


def told(details: Details, client: Any = STRICT, width: int | None = None) -> dict[str, str]:
    """What the page of one grant says, by its labels."""
    lines = page(full_view(details, client), NOW, width)
    return {line[2:20].strip(): line[20:] for line in lines[1:]}


def test_one_grant_is_told_in_whole() -> None:
    shown = grant(
        version=7,
        issued_at=NOW - 3000,
        served_at=NOW - 3000,
        attempt_sequence=4,
        authorized_by="owner@example.org",
        authorized_subject="u1",
        labels={"team": "a"},
        refresh_token_obtained_at=NOW - 3000,
        refresh_token_expires_at=NOW + 86_400,
        rejection=Rejection(7, Answer.DEFERRED, NOW + 20),
        requested_at=NOW + 20,
    )
    kept = (KeptCount("orphan", 2, NOW - 7200, NOW - 60), KeptCount("unreadable", 1, NOW, NOW))
    said = told(Details(shown, granted_scope="r", kept=kept))
    assert said == {
        "since": "2027-01-15T05:30:00Z (2 h ago)",
        "access token": "version 7, ends 2027-01-15T08:10:00Z (in 10 min), issued "
        "2027-01-15T07:10:00Z (50 min ago)",
        "refresh token": "held since 2027-01-15T07:10:00Z (50 min ago), ends "
        "2027-01-16T08:00:00Z (in 24 h)",
        "client": "crm",
        "rotation": "strict: each refresh token is good once: an answer lost now costs the "
        "grant; after a lost answer the same one is sent once more at once",
        "scope asked": "r w",
        "scope granted": "r",
        "authorized by": "owner@example.org, subject u1",
        "last exchange": "last served 2027-01-15T07:10:00Z (50 min ago)",
        "next attempt": "2027-01-15T08:05:00Z (in 5 min): a new access token is fetched before "
        "this one ends",
        "consumers": "rejected version 7: it is refreshed when the interval between two such "
        "requests is over, 2027-01-15T08:00:20Z (in 20 s); last refresh asked for is of "
        "2027-01-15T08:00:20Z (in 20 s)",
        "kept answers": "2 that came too late for their authorization, from "
        "2027-01-15T06:00:00Z (2 h ago) to 2027-01-15T07:59:00Z (60 s ago); 1 that could not be "
        "read, 2027-01-15T08:00:00Z (now)",
        "labels": "team=a",
        "comes from": "login or import",
    }
    for width in (80, 120):
        lines = page(full_view(Details(shown, kept=kept), STRICT), NOW, width)
        assert max(len(click.unstyle(line)) for line in lines) <= width


@pytest.mark.parametrize(
    ("rotation", "after", "part"),
    [
        ("none", UnknownOutcome.REPLAY, "an answer lost now costs nothing"),
        ("grace(30)", UnknownOutcome.REPLAY, "again for 30 s: an answer lost now is asked for"),
        ("until_used", UnknownOutcome.REPLAY, "until its successor is used"),
        ("strict", UnknownOutcome.DEFER, "only when the access token is about to end"),
        (
            "unknown",
            next(iter(set(UnknownOutcome) - {"replay", "defer"})),
            "paused for an operator",
        ),
    ],
)
def test_a_rotation_profile_is_told_by_what_it_means(
    rotation: str, after: UnknownOutcome, part: str
) -> None:
    client = make_client(rotation=rotation, on_unknown_outcome=after)
    assert part in told(Details(grant()), client)["rotation"]


OPEN = Intent(sequence=2, presented=b"x", first_sent_at=NOW - 10, attempts=2)


@pytest.mark.parametrize(
    ("parts", "exchange", "attempt"),
    [
        ({}, "none under this authorization", "a new access token is fetched before"),
        ({"due_at": NOW - 1}, "none", "now, as soon as it is its turn: a new access"),
        ({"intent": OPEN}, "no answer is known: sent 2 times, first 2027-01-15T07:59:50Z",
         "the same refresh token is sent again, for its answer never came"),
        ({"failures": 3, "failing_since": NOW - 60, "fault": Fault.ENDPOINT},
         "3 in a row brought no token, the first 2027-01-15T07:59:00Z (60 s ago) (the server",
         "it is tried again, at a growing distance"),
        ({"refused_at": NOW - 60, "refusals": 2}, "refused 2 times since", "presented once more"),
        ({"requested_at": NOW + 300}, "none", "a refresh that was asked for"),
        ({"expires_at": None}, "none", "a first access token is fetched"),
        ({"due_at": None, "state": GrantState.PAUSED}, "none", "none: an operator decides"),
        ({"due_at": NOW + 900, "state": GrantState.PAUSED}, "none",
         "2027-01-15T08:15:00Z (in 15 min): the pause ends, and a new access token is fetched"),
        ({"due_at": None, "state": GrantState.REAUTHORIZATION_REQUIRED}, "none",
         "none: only a new authorization helps"),
        ({"due_at": None, "refresh_token_fingerprint": None}, "none",
         "none: there is no refresh token"),
    ],
)  # fmt: skip
def test_the_last_exchange_and_the_next_attempt_are_told(
    parts: dict[str, Any], exchange: str, attempt: str
) -> None:
    said = told(Details(grant(**parts)))
    assert said["last exchange"].startswith(exchange)
    assert attempt in said["next attempt"]


def test_an_exchange_under_way_is_told() -> None:
    said = told(Details(grant(intent=OPEN), is_out=True))
    assert said["last exchange"] == "under way, sent 2027-01-15T07:59:50Z (10 s ago)"


def test_the_replica_that_made_the_last_exchange_is_told() -> None:
    said = told(Details(grant(intent=OPEN), is_out=True, claimed_by="pod-1"))
    assert said["last exchange"].endswith("(10 s ago); made by replica pod-1")


def test_an_open_exchange_says_when_its_window_is_over() -> None:
    client = make_client(rotation="grace(60)")
    assert told(Details(grant(intent=OPEN)), client)["rotation"].endswith("is over in 50 s")


def test_a_static_token_has_no_exchange() -> None:
    static = replace(grant(due_at=None, client=None), kind=GrantKind.STATIC)
    said = told(Details(static), None)
    assert said["next attempt"] == "none: a static token is replaced by a person"
    assert not {"client", "rotation", "refresh token", "last exchange"} & said.keys()


def test_a_client_that_is_gone_is_told() -> None:
    assert told(Details(grant()), None)["client"] == "crm, which is not in the settings"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (GrantKind.CLIENT, "the client alone (client_credentials), for billing"),
        (GrantKind.ASSERTION, "what the client signs (jwt_bearer), subject user, for billing"),
        (GrantKind.EXCHANGE, "the token of grant user (token_exchange), for billing"),
    ],
)
def test_a_grant_that_renews_itself_says_by_what(kind: GrantKind, told: str) -> None:
    terms = Terms(subject="user", audience=("billing",))
    intent = Intent(sequence=1, presented=b"x", first_sent_at=NOW, attempts=1)
    shown = replace(grant(), kind=kind, terms=terms, intent=intent)
    text = click.unstyle("\n".join(page(full_view(Details(shown), make_client()), NOW, None)))
    assert told in text
    assert "refresh token" not in text
    assert "rotation" not in text
