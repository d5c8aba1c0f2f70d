"""The commit rule as a table, and the numbers that only grow."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresher.domain import commit_rule
from refresher.domain.commit_rule import Verdict, judge, merge, next_version
from refresher.domain.grants import Grant, GrantKind, GrantState, Intent, TokenSet
from refresher.domain.secret import Secret

APPLY, DONE, VOID = Verdict.APPLY, Verdict.ALREADY_APPLIED, Verdict.SUPERSEDED

TOKENS = TokenSet(access_token=Secret("at"), refresh_token=Secret("rt"))
STORED = Grant(
    id=1,
    uid="uid-1",
    name="acme",
    kind=GrantKind.REFRESHABLE,
    client="crm",
    origin="settings",
    authorization_serial=3,
    attempt_sequence=7,
    adopted_sequence=5,
    refresh_token_fingerprint=b"stored",
    predecessor_fingerprint=b"predecessor",
)


@dataclass(frozen=True)
class Row:
    """One situation: what the attempt was, and what counts of it."""

    name: str
    tokens: Verdict
    """With tokens in the answer."""
    failure: Verdict
    """Without."""
    sequence: int = 7
    presented: bytes = b"stored"
    uid: str = "uid-1"
    serial: int = 3


TABLE = [
    Row("the latest attempt", APPLY, APPLY),
    Row("an earlier attempt, not adopted", APPLY, VOID, sequence=6),
    Row("the adopted attempt itself", DONE, DONE, sequence=5),
    Row("before the adopted attempt", VOID, VOID, sequence=4),
    Row("latest, presented the predecessor", APPLY, VOID, presented=b"predecessor"),
    Row("earlier, presented the predecessor", APPLY, VOID, sequence=6, presented=b"predecessor"),
    Row("presented something older", VOID, VOID, presented=b"ancestor"),
    Row("of an earlier authorization", VOID, VOID, serial=2),
    Row("of a later authorization", VOID, VOID, serial=4),
    Row("of a removed grant of this name", VOID, VOID, uid="uid-0"),
    Row("adopted, but of another authorization", VOID, VOID, sequence=5, serial=2),
]


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
@pytest.mark.parametrize("brings_tokens", [True, False], ids=["tokens", "failure"])
def test_every_situation_has_its_verdict(row: Row, *, brings_tokens: bool) -> None:
    claimed = replace(STORED, uid=row.uid, authorization_serial=row.serial)
    intent = Intent(sequence=row.sequence, presented=row.presented, first_sent_at=0.0, attempts=1)
    verdict = judge(STORED, claimed, intent, TOKENS if brings_tokens else None)
    assert verdict is (row.tokens if brings_tokens else row.failure)


@pytest.mark.parametrize(("known", "verdict"), [(5, APPLY), (4, VOID)], ids=["known", "new"])
def test_a_grant_is_given_up_by_what_is_known_of_its_server(known: int, verdict: Verdict) -> None:
    """An earlier attempt was open when this one was claimed, and was answered since."""
    claimed = replace(STORED, adopted_sequence=known)
    intent = Intent(sequence=7, presented=b"stored", first_sent_at=0.0, attempts=2)
    assert judge(STORED, claimed, intent, None, gives_up=True) is verdict
    assert judge(STORED, claimed, intent, None) is APPLY


@pytest.mark.parametrize("brings_tokens", [True, False], ids=["tokens", "failure"])
def test_nothing_counts_for_a_grant_without_tokens(*, brings_tokens: bool) -> None:
    """No fingerprint is stored, so none was presented."""
    stored = replace(STORED, refresh_token_fingerprint=None, predecessor_fingerprint=None)
    intent = Intent(sequence=7, presented=b"stored", first_sent_at=0.0, attempts=1)
    assert judge(stored, stored, intent, TOKENS if brings_tokens else None) is VOID


@pytest.mark.parametrize(
    ("refresh_token", "verdict"), [(None, VOID), (Secret("rt-1"), Verdict.APPLY)]
)
def test_a_late_answer_revives_no_rejected_refresh_token(
    refresh_token: Secret | None, verdict: Verdict
) -> None:
    """The latest attempt was told that it is dead: only a new one can mend that."""
    dead = replace(STORED, state=GrantState.REAUTHORIZATION_REQUIRED, attempt_sequence=7)
    late = Intent(sequence=6, presented=b"stored", first_sent_at=9.0, attempts=1)
    tokens = TokenSet(access_token=Secret("at-1"), refresh_token=refresh_token)
    assert judge(dead, dead, late, tokens) is verdict


def test_a_later_attempt_in_flight_keeps_its_intent() -> None:
    later = Intent(sequence=7, presented=b"stored", first_sent_at=9.0, attempts=2)
    stored = replace(STORED, intent=later)
    after = replace(STORED, attempt_sequence=6, intent=None, failures=0)
    earlier = Intent(sequence=6, presented=b"stored", first_sent_at=9.0, attempts=1)
    merged = merge(stored, STORED, after, earlier)
    assert (merged.attempt_sequence, merged.intent) == (7, replace(later, attempts=1))
    assert merge(stored, STORED, after, later) == after


def test_a_failure_undoes_no_step_of_the_clock() -> None:
    """Every instant moved while the exchange was under way; the failure touched none."""
    claimed = replace(STORED, issued_at=9000.0, expires_at=12_600.0, since=9000.0)
    stored = replace(claimed, issued_at=1800.0, expires_at=5400.0, since=1800.0)
    intent = Intent(sequence=6, presented=b"stored", first_sent_at=9.0, attempts=1)
    after = replace(claimed, attempt_sequence=6, failures=1, due_at=2000.0)
    merged = merge(replace(stored, attempt_sequence=6), claimed, after, intent)
    assert (merged.issued_at, merged.expires_at, merged.since) == (1800.0, 5400.0, 1800.0)
    assert (merged.failures, merged.due_at) == (1, 2000.0)


def test_late_tokens_end_the_doubt_of_a_later_attempt() -> None:
    """What was refused is not what they brought."""
    earlier = Intent(sequence=6, presented=b"stored", first_sent_at=1.0, attempts=1)
    claimed = replace(STORED, intent=earlier, attempt_sequence=6)
    stored = replace(STORED, intent=None, refused_at=5.0, refusals=1, failing_since=5.0)
    after = replace(claimed, intent=None, served_at=2.0)
    merged = merge(stored, claimed, after, earlier)
    assert (merged.refused_at, merged.failing_since, merged.served_at) == (None, None, 2.0)


@given(st.integers(0, 2**60), st.floats(0, 1e11))
def test_the_next_version_is_always_higher(previous: int, now: float) -> None:
    version = next_version(previous, now)
    assert version > previous
    assert version >= int(now * 1000)
    assert version in {previous + 1, int(now * 1000)}


@pytest.mark.parametrize(("begun_after", "counts"), [(0.0, True), (-7200.0, True), (60.0, False)])
def test_an_attempt_is_taken_from_the_intent_that_counts_it(
    begun_after: float, *, counts: bool
) -> None:
    """A refusal ends an intent; the late answer to one of its attempts is none of the next."""
    attempt = Intent(sequence=1, presented=b"rt", first_sent_at=1e9, attempts=1)
    stored = replace(attempt, sequence=4, first_sent_at=1e9 + begun_after, attempts=2)
    assert commit_rule._counts(stored, attempt) is counts
