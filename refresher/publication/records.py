"""What a publication looks like in Redis: fields, message and events, pure.

Instants are floored to whole seconds, so no record promises more than the vault does.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from json.encoder import encode_basestring_ascii

from refresher.domain.grants import Grant, GrantKind, GrantState, Publication
from refresher.domain.repairs import repair

Fields = dict[str, str]

AHEAD = 5.0
"""Seconds an instant of ours may lie in the future before our clock must have stepped."""


class EventKind(StrEnum):
    """The field ``event`` of an entry in the stream of events."""

    PUBLISHED = "published"
    """A version can be read for the first time."""
    STATE = "state"
    """The grant's state or its reason changed."""
    REQUEST = "request"
    """Consumers' word that its token was rejected has an answer, or another one."""


def is_withdrawn(publication: Publication) -> bool:
    """Whether no access token of this grant may be readable, whatever its end."""
    return publication.access_token is None or publication.grant.state is GrantState.REMOVED


def is_misdated(publication: Publication, now: float) -> bool:
    """Whether the token was issued in what is the future now: the clock stepped back since.

    How much of its life is left cannot be told from its instants. The TTL of its key can:
    Redis counted on. A static token ends by the calendar, whenever it was set.
    """
    grant = publication.grant
    if grant.issued_at is None or grant.issued_at <= now + AHEAD:
        return False
    return grant.kind is not GrantKind.STATIC and grant.expires_at is not None


def remaining_life(publication: Publication, now: float) -> float:
    """Seconds the access token can still be shown at least; infinite without an end."""
    if is_withdrawn(publication) or is_misdated(publication, now):
        return 0.0
    ends_at, lifetime = publication.grant.expires_at, publication.grant.lifetime
    if ends_at is None:
        return math.inf
    remaining = max(0.0, ends_at - now)
    # A wall clock that stepped back must not lengthen a life.
    return remaining if lifetime is None else min(remaining, lifetime)


@dataclass(frozen=True, slots=True)
class Told:
    """All that Redis is told of one publication, made once."""

    token: Fields = field(repr=False)
    """The token hash; empty when nothing may be readable. Holds the access token."""
    message: str = field(repr=False)
    """The same as flat JSON, for the channel."""
    status: Fields
    life: float
    """Seconds the access token can still be shown at least; infinite without an end."""


def told_of(publication: Publication, now: float) -> Told:
    """What Redis is told NOW of PUBLICATION."""
    life = remaining_life(publication, now)
    return Told(*token_and_message(publication), status_fields(publication), life)


def token_and_message(publication: Publication) -> tuple[Fields, str]:
    """The token hash, and the same as flat JSON; empty when nothing may be readable."""
    if is_withdrawn(publication):
        return {}, ""
    values = _token_values(publication)
    return _as_text(values), _as_json(values)


def token_fields(publication: Publication) -> Fields:
    """The token hash; empty when nothing may be readable. Holds the access token."""
    return {} if is_withdrawn(publication) else _as_text(_token_values(publication))


def has_gone(publication: Publication) -> bool:
    """Whether the vault has noticed that this grant has no readable token any more."""
    grant = publication.grant
    if grant.version == 0:
        return False  # it never had one
    return is_withdrawn(publication) or grant.revision >= _end_ms(grant)


def gone_since(grant: Grant, revision: int) -> bool:
    """Whether the token of GRANT ended after it had the status REVISION."""
    return revision < _end_ms(grant)


def gone_message(publication: Publication) -> str:
    """What the channel says when the key of a token goes: flat JSON without a token."""
    grant = publication.grant
    return _as_json({"version": grant.version, "state": grant.state.value})


def status_fields(publication: Publication) -> Fields:
    """The status hash; what does not apply is left out."""
    grant = publication.grant
    return _shown(
        {
            "state": grant.state.value,
            "reason": grant.reason,
            "since": _seconds(grant.since),
            "version": grant.version,
            "expires_at": _seconds(grant.expires_at),
            "next_attempt_at": _seconds(grant.due_at),
            "repair": repair(grant),
            **_request(grant),
            "revision": grant.revision,
        }
    )


def event_fields(kind: EventKind, publication: Publication) -> Fields:
    """One entry of the stream of events; no token."""
    grant = publication.grant
    about = _request(grant) if kind is EventKind.REQUEST else {}
    return _shown(
        {
            "event": kind.value,
            "grant": grant.name,
            "version": grant.version,
            "state": grant.state.value,
            "reason": grant.reason,
            "expires_at": _seconds(grant.expires_at),
            **about,
            "revision": grant.revision,
        }
    )


def _request(grant: Grant) -> dict[str, str | int | None]:
    """What consumers are told who rejected a token of GRANT."""
    rejection = grant.rejection
    if rejection is None or rejection.version < grant.version:
        return {}
    return {"request": rejection.answer.value, "request_until": _seconds(rejection.until)}


def _end_ms(grant: Grant) -> float:
    """The end of the token in milliseconds, which revisions are; infinite without one."""
    return math.inf if grant.expires_at is None else math.floor(grant.expires_at * 1000)


def _token_values(publication: Publication) -> dict[str, str | int]:
    """Provider extras come first: none of them may replace a field of the contract."""
    grant = publication.grant
    assert publication.access_token is not None
    values: dict[str, str | int] = dict(publication.extras)
    values |= {f"label.{key}": value for key, value in grant.labels.items()}
    values |= {
        "access_token": publication.access_token.reveal(),
        "token_type": publication.token_type,
        "version": grant.version,
        "scope": publication.scope,
    }
    for name, instant in (("expires_at", grant.expires_at), ("issued_at", grant.issued_at)):
        values.pop(name, None)
        if instant is not None:
            values[name] = math.floor(instant)
    return values


def _as_text(values: Mapping[str, str | int]) -> Fields:
    return {name: str(value) for name, value in values.items()}


def _as_json(values: Mapping[str, str | int]) -> str:
    """VALUES as a JSON object, in a third of the time that an encoder takes."""
    quoted = encode_basestring_ascii
    parts = [
        f"{quoted(name)}:{quoted(value) if isinstance(value, str) else value}"
        for name, value in values.items()
    ]
    return f"{{{','.join(parts)}}}"


def _shown(values: Mapping[str, str | int | None]) -> Fields:
    return {field: str(value) for field, value in values.items() if value is not None}


def _seconds(instant: float | None) -> int | None:
    return None if instant is None else math.floor(instant)
