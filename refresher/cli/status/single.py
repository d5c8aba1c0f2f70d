"""Everything known of one grant, in words."""

import re
from collections.abc import Iterator

import click

from refresher.cli.status.drawing import Block, wrapped
from refresher.cli.status.wording import COLOURS, Urgency, View, advice, urgency
from refresher.domain.grants import Answer, Fault, GrantKind, GrantState
from refresher.domain.quirks import RotationProfile
from refresher.text import plain
from refresher.times import dated, duration, relative

LABEL = 18
"""Columns of what stands before each text."""

ROTATION = {
    RotationProfile.NONE: "its refresh token stays good after a use: an answer lost now costs "
    "nothing",
    RotationProfile.GRACE: "a used refresh token is taken again for {grace}: an answer lost now is "
    "asked for again within that time, and costs the grant after it",
    RotationProfile.UNTIL_USED: "a used refresh token is taken until its successor is used: an "
    "answer lost now is asked for again",
    RotationProfile.STRICT: "each refresh token is good once: an answer lost now costs the grant",
    RotationProfile.UNKNOWN: "nobody knows what a used refresh token is worth: an answer lost now "
    "may cost the grant",
}
"""What each profile means for a grant at any moment."""

RENEWED_BY = {
    GrantKind.CLIENT: "the client alone (client_credentials)",
    GrantKind.ASSERTION: "what the client signs (jwt_bearer), subject {subject}",
    GrantKind.EXCHANGE: "the token of grant {subject} (token_exchange)",
}

AFTER_LOSS = {
    "replay": "the same one is sent once more at once",
    "defer": "the same one is sent again only when the access token is about to end",
}
"""What follows when the answer to a single-use refresh token is lost; else an operator decides."""

FAULTS = {
    Fault.GRANT: "others of the client are served",
    Fault.CLIENT: "no grant of the client can be served",
    Fault.ENDPOINT: "the server or the network fails",
}

ANSWERS = {
    Answer.ACCEPTED: "it is refreshed",
    Answer.DEFERRED: "it is refreshed when the interval between two such requests is over",
    Answer.PAUSED: "an operator decides first",
    Answer.EXCHANGE_OPEN: "its exchange is open, and that goes on by its own rule",
    Answer.DOUBTED: "its refresh token is refused, and asked for again at a pace of its own",
    Answer.BACKING_OFF: "its refresh fails, and is tried again at a pace of its own",
    Answer.PERSON_NEEDED: "nothing here can replace the token",
}


def page(view: View, now: float, width: int | None) -> Block:
    """What is to be read of the grant in VIEW (``app.looks.full_view``)."""
    state = GrantState(view["state"])
    lines = [f"{plain(view['name'])}  {click.style(state.value, fg=COLOURS[state])}"]
    for label, text in _facts(view, now):
        lines += wrapped(plain(text), width, f"  {label:{LABEL}}", " " * (LABEL + 2))
    for text, is_command in advice(view, now):
        lines += ["    " + text] if is_command else wrapped(text, width, "  ", "    ")
    return lines


def _facts(view: View, now: float) -> Iterator[tuple[str, str]]:
    yield "since", dated(view["since"], now)
    yield "access token", _access_token(view, now)
    kind = GrantKind(view["kind"])
    if kind is GrantKind.REFRESHABLE:
        yield "refresh token", _refresh_token(view, now)
    elif kind.renews_itself:
        yield "renewed by", _renewed_by(view, kind)
    if kind is not GrantKind.STATIC:
        yield "client", _client(view)
        if view["rotation"] is not None and not kind.renews_itself:
            yield "rotation", rotation(view, now)
        yield "scope asked", " ".join(view["scope"] or view["client_scope"]) or "the server's own"
    yield "scope granted", " ".join(view["granted_scope"]) or "not said"
    if view["authorized_by"] or view["authorized_subject"]:
        subject = view["authorized_subject"]
        by = [view["authorized_by"], f"subject {subject}" if subject else None]
        yield "authorized by", ", ".join(filter(None, by))
    if kind is not GrantKind.STATIC:
        yield "last exchange", last_exchange(view, now)
    yield "next attempt", next_attempt(view, now)
    yield "consumers", consumers(view, now)
    yield "kept answers", kept(view, now)
    if view["labels"]:
        yield "labels", " ".join(f"{key}={value}" for key, value in view["labels"].items())
    yield "comes from", "the settings" if view["origin"] == "settings" else "login or import"


def _access_token(view: View, now: float) -> str:
    if not view["version"]:
        return "none has come yet"
    end = (
        "no end is known" if view["expires_at"] is None else f"ends {_at(view, 'expires_at', now)}"
    )
    issued = "" if view["issued_at"] is None else f", issued {_at(view, 'issued_at', now)}"
    return f"version {view['version']}, {end}{issued}"


def _refresh_token(view: View, now: float) -> str:
    if not view["refresh_token"]:
        return "none is held"
    told = "held"
    if view["refresh_token_obtained_at"] is not None:
        told += f" since {_at(view, 'refresh_token_obtained_at', now)}"
    if view["refresh_token_expires_at"] is not None:
        told += f", ends {_at(view, 'refresh_token_expires_at', now)}"
    if view["on_probation"]:
        told += "; found in an odd answer and not served yet, its predecessor is kept"
    return told


def _renewed_by(view: View, kind: GrantKind) -> str:
    told = RENEWED_BY[kind].format(subject=view["terms"]["subject"])
    for_whom = [*view["terms"]["audience"], *view["terms"]["resource"]]
    return f"{told}, for {' '.join(for_whom)}" if for_whom else told


def _client(view: View) -> str:
    known = "" if view["client_known"] else ", which is not in the settings"
    return f"{view['client'] or '-'}{known}"


def rotation(view: View, now: float) -> str:
    """What the rotation profile of the client means for the grant in VIEW now."""
    text = view["rotation"]
    profile = RotationProfile(text.partition("(")[0])
    grace = float(match[1]) if (match := re.search(r"\((.+)\)", text)) else 0.0
    told = f"{text}: {ROTATION[profile].format(grace=duration(grace))}"
    intent = view["intent"]
    if intent is not None and profile is RotationProfile.GRACE:
        told += (
            f"; that of the open exchange is over {relative(intent['first_sent_at'] + grace, now)}"
        )
    if profile in {RotationProfile.STRICT, RotationProfile.UNKNOWN}:
        then = AFTER_LOSS.get(view["on_unknown_outcome"], "the grant is paused for an operator")
        told += f"; after a lost answer {then}"
    return told


def last_exchange(view: View, now: float) -> str:
    """What the last exchange of the grant in VIEW came to, as far as the vault knows."""
    intent, parts = view["intent"], []
    if view["exchange_out"] and intent is not None:
        parts.append(f"under way, sent {dated(intent['first_sent_at'], now)}")
    elif intent is not None:
        times = "once" if intent["attempts"] == 1 else f"{intent['attempts']} times"
        parts.append(
            f"no answer is known: sent {times}, first {dated(intent['first_sent_at'], now)}"
        )
    if view["refusals"] and view["refused_at"] is not None:
        parts.append(f"refused {view['refusals']} times since {_at(view, 'refused_at', now)}")
    if view["failures"] and view["failing_since"] is not None:
        whose = f" ({FAULTS[Fault(view['fault'])]})" if view["fault"] else ""
        parts.append(
            f"{view['failures']} in a row brought no token, the first "
            f"{_at(view, 'failing_since', now)}{whose}"
        )
    if view["served_at"] is not None:
        parts.append(f"last served {_at(view, 'served_at', now)}")
    if view["claimed_by"] is not None and parts:
        parts.append(f"made by replica {view['claimed_by']}")
    return "; ".join(parts) or "none under this authorization"


def next_attempt(view: View, now: float) -> str:
    """When the daemon does something next for the grant in VIEW, what, and why."""
    if view["next_attempt_at"] is None:
        return f"none: {_why_none(view)}"
    at = view["next_attempt_at"]
    when = "now, as soon as it is its turn" if at <= now else dated(at, now)
    return f"{when}: {_why(view)}"


def _why_none(view: View) -> str:
    if view["kind"] == GrantKind.STATIC:
        return "a static token is replaced by a person"
    match urgency(view):
        case Urgency.LOST:
            return "only a new authorization helps"
        case Urgency.NEVER_AUTHORIZED:
            return "a login or an import is awaited"
        case Urgency.PAUSED:
            return "an operator decides"
        case _ if not view["renewable"]:
            return "there is no refresh token"
        case _:
            return "nothing is due"


def _why(view: View) -> str:
    if view["asked_for"]:
        return "a refresh that was asked for"
    itself = GrantKind(view["kind"]).renews_itself
    if view["refused_at"] is not None:
        return f"the refused {'request' if itself else 'refresh token'} is presented once more"
    if view["intent"] is not None and not itself:
        return "the same refresh token is sent again, for its answer never came"
    if urgency(view) is Urgency.PAUSED:
        return "the pause ends, and a new access token is fetched"
    if view["failures"]:
        return "it is tried again, at a growing distance"
    if view["expires_at"] is None:
        return "a first access token is fetched"
    return "a new access token is fetched before this one ends"


def consumers(view: View, now: float) -> str:
    """What consumers, or an operator, asked of the grant in VIEW."""
    parts, rejection = [], view["rejection"]
    if rejection is not None:
        until = "" if rejection["until"] is None else f", {dated(rejection['until'], now)}"
        answer = ANSWERS[Answer(rejection["answer"])]
        parts.append(f"rejected version {rejection['version']}: {answer}{until}")
    if view["requested_at"] is not None:
        parts.append(f"last refresh asked for is of {_at(view, 'requested_at', now)}")
    return "; ".join(parts) or "asked for nothing"


def kept(view: View, now: float) -> str:
    """Which answers are kept beside the grant in VIEW; nobody sees what is in them."""
    parts = []
    for one in view["kept"]:
        what = {
            "orphan": "came too late for their authorization",
            "unreadable": "could not be read",
        }.get(one["kind"], one["kind"])
        times = dated(one["last_at"], now)
        if one["count"] > 1:
            times = f"from {dated(one['first_at'], now)} to {times}"
        parts.append(f"{one['count']} that {what}, {times}")
    return "; ".join(parts) or "none"


def _at(view: View, field: str, now: float) -> str:
    return dated(view[field], now)
