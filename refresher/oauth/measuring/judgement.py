"""From what was seen of a server to what is said of it: pure, and never more than was seen."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from refresher.domain.quirks import Rotation, RotationProfile
from refresher.oauth.measuring.observed import (
    Brings,
    Evidence,
    Phase,
    Replay,
    Revoked,
    Said,
    Verdict,
)

CANNOT_TELL = "cannot tell"

ROUND = (3600.0, 600.0, 300.0, 60.0, 30.0, 10.0, 5.0, 1.0)
"""Windows are multiples of one of these; the largest that fits what was seen is taken."""

CLOSE = 1.25
"""How much later than the last replay that was accepted the first refused one may be."""

SHORTEST_WINDOW = 1.0
"""Seconds; nothing is gained by a replay that has less."""

DEAD_ANSWERS = 3
"""Answers that are shown, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One question and its answer."""

    question: str
    """By the name of a fact of the catalogue where there is one."""
    answer: str
    """For a person."""
    value: Any
    """For a program; None where nobody can tell."""
    evidence: str = ""
    """What was seen, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What is said of a server."""

    findings: tuple[Finding, ...]
    rotation: Rotation | None
    dead: tuple[tuple[str, Said], ...]
    """Why a refresh token was dead, and how that was said; each answer once."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keys of a client and what they should be."""

    def value(self, question: str) -> Any:
        """What is known of QUESTION."""
        return next(one.value for one in self.findings if one.question == question)


def conclude(evidence: Evidence) -> Conclusion:
    """What EVIDENCE says."""
    rotation = _rotation(evidence)
    dead = _dead(evidence)
    told = {} if rotation is None else {"rotation": rotation}
    window = _window(evidence)
    return Conclusion(
        findings=tuple(_findings(evidence, rotation)),
        rotation=rotation,
        dead=dead,
        settings={
            **told,
            **({} if window is None else {"refresh_window": window}),
            **_words(dead),
        },
    )


def _findings(evidence: Evidence, rotation: Rotation | None) -> Iterator[Finding]:
    yield _of_login(evidence)
    yield _early(evidence)
    yield _rotates(evidence)
    yield _rotation_finding(evidence, rotation)
    yield _replay(evidence)
    yield _replay_for(evidence)
    yield _replay_ends(evidence)
    yield _replay_brings(evidence)
    yield _yes_or_no(
        "reuse_kills_grant",
        evidence.reuse_kills,
        (
            "after a refused replay the newest refresh token is refused, too",
            "after a refused replay the newest refresh token works",
        ),
    )
    yield _yes_or_no(
        "kills_access_token",
        None if evidence.access_token_lives is None else not evidence.access_token_lives,
        (
            "the access token before the refresh is dead after it",
            "the access token before the refresh lives after it",
        ),
    )
    yield _revoking("revoking_refresh_token_kills_access_token", evidence.revoked_refresh)
    yield _revoking("revoking_access_token_kills_refresh_token", evidence.revoked_access)


def _of_login(evidence: Evidence) -> Finding:
    has = evidence.grants[0].first.refresh is not None if evidence.grants else None
    return _yes_or_no(
        "has_refresh_token", has, ("a login brought one", "a login brought no refresh token")
    )


def _early(evidence: Evidence) -> Finding:
    question = "refuses_early"
    if evidence.early:
        window = _window(evidence)
        words = "" if window is None else f"answered {window:g} s before the access token's end"
        return Finding(question=question, answer="yes", value=True, evidence=words)
    if evidence.refreshed is None:
        return _unknown(question)
    return Finding(
        question=question, answer="no", value=False, evidence="refreshed right after the login"
    )


def _rotates(evidence: Evidence) -> Finding:
    rotates, late = _does_rotate(evidence), evidence.rotates_late
    another = "a refresh brings another refresh token"
    same = "a refresh brings the same refresh token, or none"
    when = {
        None: "; tried while its access token lived",
        False: ", also once its access token has ended",
        True: "",
    }
    return _yes_or_no(
        "rotates",
        rotates,
        (another + (" once its access token has ended" if late else ""), same + when[late]),
    )


def _does_rotate(evidence: Evidence) -> bool | None:
    refreshed = evidence.refreshed
    if refreshed is None or refreshed.tokens is None or not evidence.grants:
        return None
    return refreshed.tokens.refresh not in {None, evidence.grants[0].first.refresh}


def _rotation_finding(evidence: Evidence, rotation: Rotation | None) -> Finding:
    if rotation is None:
        return _unknown("rotation")
    least = evidence.of(Phase.WAITING) and _ended_after(evidence) is None
    is_open = rotation.profile is RotationProfile.GRACE and bool(least)
    words = {
        RotationProfile.NONE: "the same refresh token works again",
        RotationProfile.GRACE: (
            "the least that is certain: perhaps it has no end"
            if is_open
            else "the used one works for a while"
        ),
        RotationProfile.UNTIL_USED: "the used one works until its successor is used",
        RotationProfile.STRICT: "the used one cannot be counted on",
    }
    return Finding(
        question="rotation",
        answer=str(rotation),
        value=str(rotation),
        evidence=words.get(rotation.profile, ""),
    )


def _replay(evidence: Evidence) -> Finding:
    question = "replay"
    first = next(iter(evidence.of(Phase.AT_ONCE)), None)
    if first is None or first.answer.verdict not in {Verdict.ACCEPTED, Verdict.REFUSED}:
        return _unknown(question)
    is_accepted = first.answer.verdict is Verdict.ACCEPTED
    age = f"{first.most_age:.2f} s after it was used"
    if not is_accepted:
        said = first.answer.said
        more = "" if said is None else f", with {said.error}"
        return Finding(
            question=question, answer="refused at once", value=False, evidence=f"{age}{more}"
        )
    return Finding(question=question, answer="accepted again", value=True, evidence=age)


def _replay_for(evidence: Evidence) -> Finding:
    question = "replay_seconds"
    accepted = _accepted_until(evidence)
    if _does_rotate(evidence) is not True or accepted is None:
        return _unknown(question)
    if evidence.counted is not None:
        return _unknown(question)
    refused = _ended_after(evidence)
    if refused is None:
        return Finding(
            question=question,
            answer=f"at least {accepted:.0f} s",
            value=math.floor(accepted),
            evidence=f"still accepted after {accepted:.1f} s",
        )
    seconds = _rounded(accepted, refused)
    return Finding(
        question=question,
        answer=f"{seconds:g} s",
        value=seconds,
        evidence=f"accepted after {accepted:.1f} s, refused after {refused:.1f} s",
    )


def _replay_ends(evidence: Evidence) -> Finding:
    question = "replay_ends"
    if evidence.counted is not None:
        times = "once" if evidence.counted == 1 else f"{evidence.counted} times"
        return Finding(
            question=question,
            answer=f"accepted {times}",
            value="count",
            evidence=f"replay {evidence.counted + 1} was refused, and time was not why",
        )
    if not evidence.of(Phase.AGAIN):
        return _unknown(question)
    ends = [name for name, is_so in _ends(evidence).items() if is_so]
    asked = [name for name, is_so in _ends(evidence).items() if is_so is not None]
    if not asked:
        return _unknown(question)
    words = {
        "successor": "when its successor is used",
        "access_token": "when the new access token is used",
        "time": "by time",
    }
    return Finding(
        question=question,
        answer=" and ".join(words[name] for name in ends) or "nothing seen ends it",
        value=ends,
        evidence="tried: " + ", ".join(asked),
    )


def _ends(evidence: Evidence) -> dict[str, bool | None]:
    """What ends the time in which a replay is answered; None for what was not tried."""
    by_time, accepted = _ended_after(evidence), _accepted_until(evidence)

    def refused(phase: Phase) -> bool | None:
        found = [each for each in evidence.of(phase) if _is_clear(each)]
        if not found or found[-1].answer.verdict is Verdict.ACCEPTED:
            return False if found else None
        # As late as that, time may have ended it.
        is_late = by_time is not None and found[-1].most_age > (accepted or 0.0)
        return None if is_late else True

    return {
        "successor": refused(Phase.AFTER_SUCCESSOR_USED),
        "access_token": refused(Phase.AFTER_ACCESS_TOKEN_USED),
        "time": None if not evidence.of(Phase.WAITING) else by_time is not None,
    }


def _replay_brings(evidence: Evidence) -> Finding:
    if evidence.brings is None or _does_rotate(evidence) is not True:
        return _unknown("replay_brings")
    values = {
        Brings.SAME_PAIR: "same",
        Brings.SAME_REFRESH_TOKEN: "same_refresh_token",
        Brings.ANOTHER_PAIR: "another",
        Brings.SIBLING: "sibling",
        Brings.SUCCESSOR: "successor",
    }
    return Finding(
        question="replay_brings", answer=evidence.brings.value, value=values[evidence.brings]
    )


def _revoking(question: str, seen: Revoked | None) -> Finding:
    if seen is None:
        return _unknown(question, "no way to revoke is known, or no grant was left to try it on")
    if seen.result.value != "revoked":
        return _unknown(question, f"the request to revoke came to: {seen.result.value}")
    own = {
        True: "the revoked one is dead",
        False: "the revoked one itself lives on",
        None: "nobody can tell whether the revoked one is dead",
    }[seen.ended_it]
    words = (f"the other one is dead; {own}", f"the other one lives; {own}")
    return _yes_or_no(question, seen.ended_other, words)


def _rotation(evidence: Evidence) -> Rotation | None:
    """The most careful profile that what was seen allows."""
    rotates = _does_rotate(evidence)
    first = next(iter(evidence.of(Phase.AT_ONCE)), None)
    if rotates is None or first is None or not _is_clear(first):
        return None
    if first.answer.verdict is Verdict.REFUSED:
        return Rotation(RotationProfile.STRICT)
    if not rotates:
        return Rotation(RotationProfile.NONE)
    if evidence.counted is not None:
        return Rotation(RotationProfile.STRICT)
    ends, accepted = _ends(evidence), _accepted_until(evidence)
    assert accepted is not None
    refused = _ended_after(evidence)
    if refused is None and (ends["successor"] or ends["access_token"]):
        return Rotation(RotationProfile.UNTIL_USED)
    window = math.floor(accepted) if refused is None else _rounded(accepted, refused)
    if window < SHORTEST_WINDOW:
        return Rotation(RotationProfile.STRICT)
    return Rotation(RotationProfile.GRACE, float(window))


def _accepted_until(evidence: Evidence) -> float | None:
    """The age at which a replay was certainly still accepted, and nothing but time had passed."""
    ages = [
        replay.least_age
        for replay in evidence.of(Phase.AT_ONCE, Phase.AGAIN, Phase.WAITING)
        if replay.answer.verdict is Verdict.ACCEPTED
    ]
    return max(ages, default=None)


def _ended_after(evidence: Evidence) -> float | None:
    """The age at which one was certainly refused for nothing but time."""
    return next(
        (
            replay.most_age
            for replay in evidence.of(Phase.WAITING)
            if replay.answer.verdict is Verdict.REFUSED
        ),
        None,
    )


def _rounded(accepted: float, refused: float) -> float:
    """The roundest number of seconds that fits; what was accepted, where answers were slow."""
    is_close = refused <= CLOSE * accepted + SHORTEST_WINDOW
    for unit in ROUND if is_close else ():
        fitting = math.ceil(accepted / unit) * unit
        if fitting <= refused and fitting > 0:
            return fitting
    return math.floor(accepted * 10) / 10 if is_close else math.floor(accepted)


def _window(evidence: Evidence) -> float | None:
    """Seconds before the end from when on it refreshes, rounded to the careful side."""
    return None if evidence.window is None else float(max(math.floor(evidence.window), 1))


def _dead(evidence: Evidence) -> tuple[tuple[str, Said], ...]:
    found: dict[tuple[int | None, str], tuple[str, Said]] = {}
    for why, said in evidence.dead:
        found.setdefault((said.status, said.body), (why, said))
    return tuple(found.values())[:DEAD_ANSWERS]


def _words(dead: tuple[tuple[str, Said], ...]) -> dict[str, Any]:
    """The error codes of dead refresh tokens that the settings do not take for one yet."""
    codes = sorted({
        said.error for why, said in dead if not said.means_dead and _is_own(said.error)
    })  # fmt: skip
    return {"rejection_codes": codes} if codes else {}


def _is_own(error: str) -> bool:
    """Whether a code says nothing else already; one of the standard may mean a mistake of ours."""
    return error not in {
        *("", "unrecognized_error", "invalid_request", "invalid_client", "unauthorized_client"),
        *("invalid_scope", "unsupported_grant_type", "server_error"),
    } and not error.startswith("http_")


def _is_clear(replay: Replay) -> bool:
    return replay.answer.verdict in {Verdict.ACCEPTED, Verdict.REFUSED}


def _yes_or_no(question: str, known: bool | None, words: tuple[str, str]) -> Finding:  # noqa: FBT001  three values
    if known is None:
        return _unknown(question)
    return Finding(
        question=question,
        answer="yes" if known else "no",
        value=known,
        evidence=words[0] if known else words[1],
    )


def _unknown(question: str, evidence: str = "") -> Finding:
    return Finding(question=question, answer=CANNOT_TELL, value=None, evidence=evidence)
