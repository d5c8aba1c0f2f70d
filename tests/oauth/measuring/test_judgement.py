"""What is said of a server is never more than what was seen of it."""

import pytest

from refresher.domain.secret import Secret
from refresher.oauth.measuring.judgement import CANNOT_TELL, conclude
from refresher.oauth.measuring.observed import (
    Answer,
    Evidence,
    Phase,
    Replay,
    Said,
    Throwaway,
    Tokens,
    Verdict,
)


def tokens(refresh: str | None) -> Tokens:
    return Tokens(access=Secret("AT"), refresh=None if refresh is None else Secret(refresh))


def answer(verdict: Verdict, refresh: str | None = "RT2") -> Answer:
    came = tokens(refresh) if verdict is Verdict.ACCEPTED else None
    return Answer(verdict=verdict, sent_at=0.0, answered_at=0.1, tokens=came)


def replay(phase: Phase, verdict: Verdict, age: float = 0.0) -> Replay:
    return Replay(phase=phase, answer=answer(verdict), least_age=age, most_age=age + 0.2)


def evidence(*replays: Replay, refreshed: str | None = "RT2") -> Evidence:
    seen = Evidence(refreshed=answer(Verdict.ACCEPTED, refreshed), replays=list(replays))
    seen.grants.append(Throwaway(number=1, first=tokens("RT1")))
    return seen


LENIENT = (replay(Phase.AT_ONCE, Verdict.ACCEPTED), replay(Phase.AGAIN, Verdict.ACCEPTED))


def test_nothing_seen_is_nothing_said() -> None:
    found = conclude(Evidence())
    assert found.rotation is None
    assert {one.answer for one in found.findings} == {CANNOT_TELL}
    assert {one.value for one in found.findings} == {None}
    assert found.settings == {}


def test_what_nothing_was_seen_to_end_is_called_the_least() -> None:
    found = conclude(
        evidence(
            *LENIENT,
            replay(Phase.AFTER_SUCCESSOR_USED, Verdict.ACCEPTED),
            *(replay(Phase.WAITING, Verdict.ACCEPTED, age) for age in (10.0, 61.7)),
        )
    )
    assert str(found.rotation) == "grace(61)"
    said = next(one for one in found.findings if one.question == "rotation")
    assert "the least that is certain" in said.evidence
    assert found.value("replay_ends") == []


@pytest.mark.parametrize(
    ("accepted", "refused", "seconds"),
    [(28.9, 31.2, "30"), (57.0, 61.0, "60"), (3500.0, 3700.0, "3600"), (6.6, 7.1, "7"),
     (41.0, 43.0, "41"), (1.21, 1.38, "1.2"), (3.4, 14.0, "3"), (28.0, 60.0, "28")],
)  # fmt: skip
def test_a_window_is_the_roundest_number_that_fits(
    accepted: float, refused: float, seconds: str
) -> None:
    found = conclude(
        evidence(
            *LENIENT,
            replay(Phase.WAITING, Verdict.ACCEPTED, accepted),
            replay(Phase.WAITING, Verdict.REFUSED, refused - 0.2),
        )
    )
    assert str(found.rotation) == f"grace({seconds})"


def test_a_refusal_that_came_late_is_not_laid_to_the_use_of_the_successor() -> None:
    window = (
        replay(Phase.WAITING, Verdict.ACCEPTED, 3.0),
        replay(Phase.WAITING, Verdict.REFUSED, 3.4),
    )
    early = replay(Phase.AFTER_SUCCESSOR_USED, Verdict.REFUSED, 0.5)
    late = replay(Phase.AFTER_SUCCESSOR_USED, Verdict.REFUSED, 5.0)
    assert conclude(evidence(*LENIENT, early, *window)).value("replay_ends") == [
        "successor", "time",
    ]  # fmt: skip
    assert conclude(evidence(*LENIENT, late, *window)).value("replay_ends") == ["time"]


def test_a_window_of_less_than_a_second_is_none() -> None:
    late = replay(Phase.WAITING, Verdict.REFUSED, 0.6)
    assert str(conclude(evidence(*LENIENT, late)).rotation) == "strict"


def test_a_refresh_token_that_stays_and_is_refused_later_is_single_use() -> None:
    used = replay(Phase.AT_ONCE, Verdict.REFUSED)
    assert str(conclude(evidence(used, refreshed=None)).rotation) == "strict"
    kept = replay(Phase.AT_ONCE, Verdict.ACCEPTED)
    assert str(conclude(evidence(kept, refreshed=None)).rotation) == "none"


def said(error: str, *, means_dead: bool) -> Said:
    return Said(status=400, body=f'{{"error":"{error}"}}', error=error, means_dead=means_dead)


def test_a_word_of_its_own_for_dead_is_to_be_set_and_a_standard_one_is_not() -> None:
    seen = evidence(replay(Phase.AT_ONCE, Verdict.REFUSED))
    seen.dead = [
        ("used before", said("token_gone", means_dead=False)),
        ("revoked", said("token_gone", means_dead=False)),
        ("revoked", said("invalid_request", means_dead=False)),
        ("revoked", said("invalid_grant", means_dead=True)),
    ]
    found = conclude(seen)
    assert found.settings["rejection_codes"] == ["token_gone"]
    assert [one.error for _, one in found.dead] == [
        "token_gone", "invalid_request", "invalid_grant",
    ]  # fmt: skip
