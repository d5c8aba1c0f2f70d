"""What is in Redis, and how it differs from what the vault says should be.

Always Redis first, then the vault: whatever Redis then holds above the vault's version
was not made by the vault.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from refresher.domain.grants import GrantKind, GrantState, Publication
from refresher.domain.reasons import Reason
from refresher.publication import records
from refresher.publication.publisher import Publisher
from refresher.publication.records import Fields
from refresher.publication.server.faults import is_spoilt
from refresher.publication.versions import read_version

BRIEF = 2.0
"""Seconds of life too short to tell a token that is gone from one that is going."""

TTL_TOLERANCE = 0.5
"""Seconds by which a TTL may be longer than the token's life. It may be shorter: Redis
counts on when our clock is set back, and a key that ends too early is published again."""

NO_TTL = -1
"""What PTTL answers for a key that stays for ever."""


@dataclass(frozen=True, slots=True)
class Observed:
    """Both hashes of one grant; empty where there is none."""

    token: Fields = field(repr=False)
    life: float
    """Seconds until the token key ends; infinite without a TTL."""
    status: Fields
    is_spoilt: bool = False
    """A key holds something that is no hash."""
    is_hidden: bool = False
    """Redis does not let us look; ``rights`` has told."""

    @property
    def is_absent(self) -> bool:
        """Whether Redis holds nothing of this grant."""
        return not (self.token or self.status or self.is_spoilt)

    @property
    def version(self) -> int:
        """Version of the token; -1 when there is none or it cannot be read."""
        return _number(self.token, "version")

    @property
    def revision(self) -> int:
        """Revision of the status; -1 when there is none or it cannot be read."""
        return _number(self.status, "revision")


@dataclass(frozen=True, slots=True)
class Difference:
    """Why a grant must be published again."""

    is_foreign: bool = False
    """Redis holds a version or revision that the vault never made, or a token that must
    not be readable: it has to be overwritten."""
    is_behind: bool = False
    """Redis holds exactly an older state: a publication may simply be under way."""
    in_life_only: bool = False
    """Only the TTL is wrong: the clocks should be compared before it is set again."""
    spares_token: bool = False
    """The token is of an earlier life of the vault: only the status may be overwritten."""


async def observe(publisher: Publisher, names: Sequence[str]) -> dict[str, Observed]:
    """Read both hashes of NAMES in one round trip.

    Raises:
        PublicationUnavailable: when Redis cannot be read.
    """
    keys = publisher.keys
    commands = [
        command
        for name in names
        for command in (
            ("HGETALL", keys.token(name)),
            ("PTTL", keys.token(name)),
            ("HGETALL", keys.status(name)),
        )
    ]
    replies = await publisher.server.pipeline(commands)
    triples = zip(replies[::3], replies[1::3], replies[2::3], strict=True)
    return {
        name: _observed(publisher, name, *triple)
        for name, triple in zip(names, triples, strict=True)
    }


def compare(publication: Publication, observed: Observed, now: float) -> Difference | None:
    """How OBSERVED differs from what PUBLICATION says; None when it does not.

    PUBLICATION was read after OBSERVED, so a version in Redis above it was made by nobody here.
    Example: Redis shows version 105, then the vault says 100: foreign. In the other order the
    vault could say 100, commit 105 and publish it, and its own 105 would look foreign.

    A status below the vault's revision is behind, as is one in which only the next attempt has
    moved: a write of ours is under way or was lost, and nobody else has written anything.
    """
    if observed.is_hidden:
        return None
    grant = publication.grant
    spares_token = is_of_earlier_life(publication, observed, now)
    token_is_wrong = life_is_wrong = False
    if not spares_token:
        token_is_wrong, life_is_wrong = _token_differs(publication, observed, now)
    expected = records.status_fields(publication)
    status_is_wrong = observed.status != expected
    if not (token_is_wrong or life_is_wrong or status_is_wrong or observed.is_spoilt):
        return None
    is_readable = records.remaining_life(publication, now) > 0
    is_foreign = (
        (observed.version > grant.version and not spares_token)
        or observed.revision > grant.revision
        or (bool(observed.token) and not is_readable and (token_is_wrong or life_is_wrong))
    )
    is_older = -1 < observed.revision < grant.revision
    is_rescheduled = not (token_is_wrong or life_is_wrong) and _is_rescheduled(
        observed.status, expected
    )
    return Difference(
        is_foreign=is_foreign,
        is_behind=(is_older or is_rescheduled) and not (is_foreign or observed.is_spoilt),
        in_life_only=life_is_wrong and not token_is_wrong and not status_is_wrong,
        spares_token=spares_token,
    )


def is_of_earlier_life(publication: Publication, observed: Observed, now: float) -> bool:
    """Whether Redis holds a good token that an earlier life of the vault made.

    The vault was lost and begun anew, or an old copy of it was restored. Such a token is
    newer than all the vault knows and ends by itself, so it is left alone until the vault
    makes a newer one: to overwrite it would take good tokens from consumers.

    Example: a backup of 10:00 is restored at 12:00. Redis has a token issued at 11:50 that
    ends at 12:50, the vault one issued at 9:40 that ended at 10:40. Consumers keep theirs.
    """
    return not _is_decided_here(publication) and _outlives(publication, observed, now)


def _is_decided_here(publication: Publication) -> bool:
    """Whether a person has decided in this life of the vault what may be readable.

    A refusal by the server decides nothing: it was about the vault's refresh token, and
    leaves the vault's own access token readable to its end as well.
    """
    grant = publication.grant
    is_withdrawn = grant.state is GrantState.REMOVED or grant.status_reason == Reason.REVOKED_HERE
    return is_withdrawn or (grant.kind is GrantKind.STATIC and grant.version > 0)


def _outlives(publication: Publication, observed: Observed, now: float) -> bool:
    """Whether the token in Redis is whole, will end, and was issued after the vault's own.

    A version from the future was made by no vault, and would refuse the next one for long.
    """
    grant, token = publication.grant, observed.token
    issued_at, expires_at = _number(token, "issued_at"), _number(token, "expires_at")
    if not token.get("access_token") or issued_at < 0 or expires_at < 0:
        return False
    # Instants in Redis are floored: its end may truly be a second later than it says.
    ends_in_time = observed.life <= expires_at + 1 - now + TTL_TOLERANCE
    is_plausible = grant.version < observed.version <= (now + records.AHEAD) * 1000
    is_later = grant.version == 0 or (grant.issued_at is not None and issued_at > grant.issued_at)
    return ends_in_time and is_plausible and is_later


def should_be_readable(publication: Publication, now: float) -> bool:
    """Whether the token key must exist now, and a little longer."""
    return records.remaining_life(publication, now) > BRIEF


def _token_differs(publication: Publication, observed: Observed, now: float) -> tuple[bool, bool]:
    """Whether the fields are wrong, and whether the TTL is.

    A token about to end is left alone where that can be: a write for its last moments could
    come after its end. With a second left an absent key is no difference, and an older token
    in its place ends by itself; a newer version is one, for nothing here would ever end it.
    """
    life = records.remaining_life(publication, now)
    if records.is_withdrawn(publication):
        return bool(observed.token), False
    if not observed.token:
        return life > BRIEF, False
    is_older = observed.version < publication.grant.version
    if life <= BRIEF and is_older:
        # An older one may still live, and ends by itself; what has no version is nobody's.
        return observed.version < 0, math.isinf(observed.life)
    longest = _longest_life(publication, now)
    if life <= BRIEF:
        return observed.version > publication.grant.version, observed.life > longest
    fields_differ = is_older or observed.token != records.token_fields(publication)
    if math.isinf(life) or math.isinf(observed.life):
        return fields_differ, life != observed.life
    return fields_differ, observed.life > longest


def _longest_life(publication: Publication, now: float) -> float:
    """The longest TTL that the token key may have."""
    if records.is_misdated(publication, now):
        return (publication.grant.lifetime or 0.0) + TTL_TOLERANCE
    return records.remaining_life(publication, now) + TTL_TOLERANCE


def _is_rescheduled(status: Fields, expected: Fields) -> bool:
    """Whether only the next attempt moved, which alone is not worth a new revision."""
    ignored = {"next_attempt_at": ""}
    return status | ignored == expected | ignored


def _observed(publisher: Publisher, name: str, token: Any, life: Any, status: Any) -> Observed:
    refused = [
        reply
        for reply in (token, life, status)
        if isinstance(reply, Exception)
        and not is_spoilt(reply)
        and not publisher.is_done(reply, name)
    ]
    return Observed(
        token=_fields(token),
        life=math.inf if life == NO_TTL else life / 1000 if isinstance(life, int) else 0.0,
        status=_fields(status),
        is_spoilt=is_spoilt(token) or is_spoilt(status),
        is_hidden=bool(refused),
    )


def _fields(reply: Mapping[bytes, bytes] | Exception) -> Fields:
    if isinstance(reply, Exception):
        return {}
    return {
        str(name, "utf-8", "replace"): str(told, "utf-8", "replace") for name, told in reply.items()
    }


def _number(fields: Fields, name: str) -> int:
    number = read_version(fields.get(name, ""))
    return -1 if number is None else number
