"""What the prose of an error says: ``error_description`` and its many relatives.

Servers put into words what their codes leave open: that the refresh token is dead, that
another request is still at work on it, that it is too early, that a person must act. The
words are read here and go nowhere else, since a server may quote in them what it was sent
(guarantee G5). A phrase counts only where it can mean nothing else.
"""

import re
from collections.abc import Iterator
from enum import Enum, auto

from refresher.oauth.documents import Fields

LONGEST_DESCRIPTION = 4096
"""Characters that are read, all descriptions of one answer together."""

NAMES = frozenset({
    "errordescription", "message", "errormessage", "detail", "details", "title",
    "description", "msg", "errmsg", "errormsg", "errorhint", "hint", "reason", "error", "suberror",
    "errorcode", "code",
    "faultstring", "usermessage", "errordetail", "errorsummary",
})  # fmt: skip
"""Fields of prose, and of codes that some servers write prose into; case, ``_`` and ``-`` do
not count. An ``error_uri`` is none."""

INSIDE = frozenset({"error", "errors", "fault", "detail", "details", "meta", "body", "data"})
"""Fields whose objects and lists may hold such fields."""

DEEPEST = 3


class Prose(Enum):
    """What a description says whatever the code beside it."""

    BEING_PROCESSED = auto()
    """Another request with the same refresh token is at work."""
    PROOF = auto()
    """A DPoP proof (RFC 9449) is missing or wrong."""
    DEAD = auto()
    """The refresh token is named as invalid, expired, revoked or unknown."""
    TOO_EARLY = auto()
    """The access token has still to live before it is refreshed."""
    LATER = auto()
    """Nothing was done; the same request may be sent again."""


_BEING_PROCESSED = re.compile(
    r"being (?:processed|handled|refreshed|rotated|renewed|exchanged|redeemed|used by another)"
    r"|(?<!no )(?<!not )(?:already|currently|still|is|refresh|request|rotation|renewal|exchange"
    r"|operation|transaction|update|process) in progress"
    r"|(?:concurrent|simultaneous|parallel|overlapping)(?:ly)?"
    r" (?:token |refresh |oauth |access |api |grant )*"
    r"(?:request|refresh|use|usage|update|call|attempt|operation|modif|rotation|exchange|transact)"
    r"|another (?:request|refresh|process|operation) is (?:already |currently |still )?"
    r"(?:using|being|in\b|processing|refreshing|running|active|pending|under)"
    r"|(?:could|can)(?: ?not|n't) (?:acquire|obtain|get) (?:the |a )?lock"
    r"|race condition"
)

_PROOF = re.compile(r"\bdpo ?p\b|\bproof[- ]of[- ]possession\b")
"""After ``DPoP`` was parted like every camel."""

_UNUSABLE = (
    r"(?:invalid|not valid|no longer valid|not (?:a )?valid|expired|revoked|unknown|unrecogni[sz]ed"
    r"|not recogni[sz]ed|not found|could ?n.t be found|does ?n.t exist|do(?:es)? not exist"
    r"|inactive|not active|no longer active|malformed|(?:already|been) (?:used|exchanged)"
    r"|been (?:rotated|deleted"
    r"|consumed|redeemed|invalidated|cancell?ed|blacklisted)|reused|blacklisted|stale|deleted)"
)
_NAMED = r"refresh ?tokens?\b"
_DEAD = re.compile(
    rf"{_NAMED}(?:(?!access|\bif\b)[^.;!?\n]){{0,60}}?"
    rf"(?<!not )(?<!n't )(?<!not yet )(?<!not been )(?<!n't been )\b{_UNUSABLE}\b"
    rf"|\b(?<!not )(?:invalid|expired|revoked|unknown|unrecogni[sz]ed|bad|inactive|incorrect|wrong"
    rf"|stale|reused|malformed|non-?existent)(?:(?: or|,) \w+)* {_NAMED}"
    rf"|\b(?:no such|could not find(?: the| a)?|cannot find(?: the| a)?) {_NAMED}"
)

_ENDED = re.compile(r"revoked|terminated|invalidated")
"""What some servers do once they have seen two requests at a time."""

_STILL_GOOD = re.compile(
    r"(?:not|n't) (?:yet )?(?:been )?expired\b|(?:un|non-?)expired"
    r"|still (?:be )?(?:valid|active|alive|live|usable|good|fresh)"
    r"|(?:not|n't|unable|refused|forbidden|denied|prohibited)\b[^.;!?\n]*"
    r"\bbefore (?:it|the (?:old |current |access )*token)(?: has| is)? expire"
)
_SOON = re.compile(
    r"(?:refresh|renew|token)[^.;!?\n]*\b(?:too (?:early|soon|recent)|prematurely)"
    r"|\b(?:too (?:early|soon|recent\w*)|premature)\b[^.;!?\n]*(?:refresh|renew|token)"
    r"|(?:not|n't) (?:yet )?(?:be )?(?:refresh|renew)\w*"
    r" (?:(?:it|(?:the|this|an?) (?:access )?token) )?(?:yet|until|before|unless)\b"
    r"|not (?:yet )?(?:due|eligible|ready|time|allowed) (?:for|to)(?: be| a| token)?"
    r" (?:refresh|renew)"
    r"|(?:can|may|must) only (?:be )?(?:refresh|renew|used?\b|request)[^.;!?\n]{0,60}"
    r"\b(?:after|once|when|within|in the last|if)\b[^.;!?\n]{0,60}expir"
    r"|(?:refresh|renewal) (?:is )?(?:not (?:yet )?(?:needed|necessary|required)|unnecessary)"
)
_ADVICE = re.compile(r"\b(?:make sure|ensure|check|verify|confirm|whether|if|must (?:be|not))\b")
"""What makes of "still valid" an advice instead of a statement."""

_LATER = re.compile(
    r"\btemporarily\b|(?:temporary|transient) (?:\w+ )?(?:error|failure|problem|issue|outage|fault)"
    r"|too many (?:\w+ ){0,2}requests|rate[ -]?limit|throttl|overload"
    r"|(?:server|service|system)(?: is)? busy"
    r"|service (?:is )?(?:currently )?unavailable|currently unavailable|under maintenance"
    r"|undergoing maintenance|\bslow down\b"
)
_AGAIN = re.compile(
    r"(?<!not )(?<!n't )(?<!never )\b(?:please retry|retry (?:your|the|this) (?:request|operation"
    r"|call)|retry (?:later|again|after|shortly|in\b)|try (?:\w+ ){0,3}again|try (?:it )?later"
    r"|request again later)(?! with\b)"
)
_PERSON = re.compile(
    r"\b(?:re-?)?(?:log|sign)(?:ging|ing)?[ -]?(?:in|on|back in)\b|\blogin\b|\bre-?auth"
    r"|\bre-?consent|\breconnect|(?:authori[sz]e|authenticate|connect|consent|link)\b[^.;!?\n]{0,40}\bagain"
    r"|(?:authorization|authentication|oauth|consent) (?:flow|process)|new (?:authorization|refresh"
    r" ?token|grant|code)|\binteractive|user interaction"
)
"""A word about logging in: "again" means the person then."""

_CORRECTION = re.compile(
    r"\b(?:correct|fix|check|verify|update|change|provide|enter|specify|supply|choose|use)\b"
    r"[^.;!?\n]*\b(?:re)?try"
)
"""Advice to send something else."""

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SENTENCE_END = re.compile(r"[.;!?\n]")


def read_descriptions(fields: Fields) -> str:
    """What FIELDS say in prose, a line for each text."""
    lines: list[str] = []
    room = LONGEST_DESCRIPTION
    for text in _texts(fields, DEEPEST):
        lines.append(" ".join(text[:room].split()))
        room -= len(text)
        if room <= 0:
            break
    return "\n".join(lines)


def judge(description: str) -> Prose | None:
    """What DESCRIPTION says; None for nothing sure."""
    text = _CAMEL.sub(" ", description).replace("\u2019", "'").lower()
    text = re.sub(r"[ \t\r_`\"*\u201c\u201d]+", " ", text)
    if _BEING_PROCESSED.search(text) and not _ENDED.search(text):
        return Prose.BEING_PROCESSED
    if _PROOF.search(text):
        return Prose.PROOF
    sentences = _SENTENCE_END.split(text)
    if any(_is_dead(sentence) for sentence in sentences):
        return Prose.DEAD
    if any(_is_too_early(sentence) for sentence in sentences):
        return Prose.TOO_EARLY
    is_again = _AGAIN.search(text) and not (_PERSON.search(text) or _CORRECTION.search(text))
    return Prose.LATER if is_again or _LATER.search(text) else None


def _is_dead(sentence: str) -> bool:
    # "Invalid client or refresh token": nobody knows which of the two.
    return "client" not in sentence and _DEAD.search(sentence) is not None


def _is_too_early(sentence: str) -> bool:
    if _SOON.search(sentence):
        return True
    # "Still valid" is a reason to wait only of an access token, or of a token in general.
    return (
        "token" in sentence
        and ("access" in sentence or re.search(_NAMED, sentence) is None)
        and _STILL_GOOD.search(sentence) is not None
        and _ADVICE.search(sentence) is None
    )


def _texts(fields: Fields, deeper: int) -> Iterator[str]:
    for name, value in fields.items():
        if isinstance(value, str) and re.sub(r"[_-]", "", name).lower() in NAMES:
            yield value
    if deeper == 0:
        return
    for name, value in fields.items():
        if name.lower() not in INSIDE:
            continue
        for item in value[:10] if isinstance(value, list) else (value,):
            if isinstance(item, dict):
                yield from _texts(item, deeper - 1)
            elif isinstance(item, str) and isinstance(value, list):
                yield item
