"""Grants that nobody knew, many in one go: an import brings a million of them.

Each is one row and one note that its refresh token was adopted. What is known already in any
way, by its name or by its refresh token, is none of these and takes the careful way (``seeds``).
"""

import json
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa

from refresher.domain import authorizing
from refresher.domain.commit_rule import next_version
from refresher.domain.grants import Grant, GrantKind, GrantState, TokenSet
from refresher.domain.reasons import Reason
from refresher.domain.seeds import Seed
from refresher.vault.authorizations import exchange_anew
from refresher.vault.changes import What, note_each
from refresher.vault.prepared import ForSome, adding_to
from refresher.vault.rows import Transaction, Values, status_values
from refresher.vault.schema import IS_EXCHANGED, adopted_seeds, grants

AT_ONCE = 500
"""Values that one statement asks for."""

_ADD, _NOTE = adding_to(grants), adding_to(adopted_seeds)

_CLIENT = sa.bindparam("client", type_=sa.String)

_HELD = {
    is_of_client: ForSome(
        partial(
            lambda of, marks: sa.select(grants.c.refresh_token_fingerprint, grants.c.name).where(
                of, grants.c.refresh_token_fingerprint.in_(marks)
            ),
            grants.c.client == _CLIENT if is_of_client else grants.c.client.is_(None),
        ),
        sa.LargeBinary,
    )
    for is_of_client in (True, False)
}
_NOTED = ForSome(
    lambda marks: sa.select(adopted_seeds.c.fingerprint).where(
        adopted_seeds.c.client == _CLIENT, adopted_seeds.c.fingerprint.in_(marks)
    ),
    sa.LargeBinary,
)
_SUBJECTS = ForSome(
    lambda names: sa.select(grants.c.subject).where(grants.c.subject.in_(names), IS_EXCHANGED),
    sa.String,
)
_IDS = ForSome(
    lambda names: sa.select(grants.c.name, grants.c.id).where(grants.c.name.in_(names)), sa.String
)

_NOBODY = Grant(
    id=0,
    uid="",
    name="",
    kind=GrantKind.REFRESHABLE,
    client=None,
    origin="",
    state=GrantState.PENDING,
    reason=Reason.AWAITING_LOGIN,
)


def add(tx: Transaction, wanted: Sequence[Seed], draw: float, *, origin: str) -> dict[int, Grant]:
    """Add those of WANTED that nobody knew; the grants that they are now, by their places."""
    prints = {
        place: tx.sealer.fingerprint(seed.refresh_token)
        for place, seed in enumerate(wanted)
        if seed.kind is GrantKind.REFRESHABLE and seed.refresh_token is not None
    }
    for place in _known(tx, wanted, prints):
        prints.pop(place, None)
    made = {place: _made(tx, wanted[place], draw, origin) for place in prints}
    _ADD.run(tx.connection, [values for _, values in made.values()])
    notes = [
        {
            "client": wanted[place].client or "",
            "fingerprint": fingerprint,
            "grant_name": wanted[place].name,
            "adopted_at": tx.now,
        }
        for place, fingerprint in prints.items()
    ]
    _NOTE.run(tx.connection, notes)
    note_each(tx, What.ADDED, ((grant.name, grant.client) for grant, _ in made.values()))
    names = [grant.name for grant, _ in made.values()]
    for subject in _subjects(tx, names):
        exchange_anew(tx, subject)
    ids = _ids(tx, names)
    return {place: grant.but(id=ids[grant.name]) for place, (grant, _) in made.items()}


def _known(tx: Transaction, wanted: Sequence[Seed], prints: Mapping[int, bytes]) -> set[int]:
    """The places of those of which anything is known, or that stand twice among WANTED."""
    names = _ids(tx, [wanted[place].name for place in prints]).keys() | _twice(
        seed.name for seed in wanted
    )
    tokens = _twice((wanted[place].client, fingerprint) for place, fingerprint in prints.items())
    tokens |= held(tx, wanted, prints).keys() | noted(tx, wanted, prints)
    return {
        place
        for place, fingerprint in prints.items()
        if wanted[place].name in names or (wanted[place].client, fingerprint) in tokens
    }


Token = tuple[str | None, bytes]
"""A client's refresh token, by its fingerprint."""


def held(tx: Transaction, wanted: Sequence[Seed], prints: Mapping[int, bytes]) -> dict[Token, str]:
    """Which grant holds now what one of WANTED brings."""
    return {
        (client, bytes(mark)): holder
        for client, some in _by_client(wanted, prints)
        for mark, holder in _HELD[client is not None].rows(tx.connection, some, {"client": client})
    }


def noted(tx: Transaction, wanted: Sequence[Seed], prints: Mapping[int, bytes]) -> set[Token]:
    """What of WANTED was adopted or rejected once (``spent``)."""
    return {
        (client, bytes(mark))
        for client, some in _by_client(wanted, prints)
        for (mark,) in _NOTED.rows(tx.connection, some, {"client": client or ""})
    }


def _by_client(
    wanted: Sequence[Seed], prints: Mapping[int, bytes]
) -> Iterator[tuple[str | None, Sequence[bytes]]]:
    for client in {wanted[place].client for place in prints}:
        of_client = [mark for place, mark in prints.items() if wanted[place].client == client]
        for some in parts(of_client):
            yield client, some


def _made(tx: Transaction, seed: Seed, draw: float, origin: str) -> tuple[Grant, Values]:
    """The grant that SEED begins, and its row."""
    assert seed.refresh_token is not None
    stored = _NOBODY.but(
        uid=secrets.token_hex(16),
        name=seed.name,
        kind=seed.kind,
        client=seed.client,
        origin=origin,
        labels=dict(seed.labels),
        scope=seed.scope,
        since=tx.now,
        revision=next_version(0, tx.now),
    )
    end = seed.expires_at
    is_live = seed.access_token is not None and end is not None and end > tx.now
    idle = seed.refresh_token_idle
    after = authorizing.seeded(stored, end if is_live else None, tx.now, draw, idle=idle)
    values: Values = {"token_type": "Bearer", "granted_scope": "", "version": 0}
    values |= tx.sealer.refresh_token_values(
        after, seed.refresh_token, presented=None, obtained_at=tx.now
    )
    if is_live:
        tokens = TokenSet(
            access_token=seed.access_token,
            refresh_token=seed.refresh_token,
            token_type=seed.token_type,
            issued_at=tx.now,
            expires_at=end,
        )
        values |= tx.sealer.access_token_values(after, tokens)
        values["version"] = next_version(0, tx.now)
    grant = after.but(
        revision=next_version(after.revision, tx.now),
        version=values["version"],
        refresh_token_fingerprint=values["refresh_token_fingerprint"],
        refresh_token_obtained_at=tx.now,
    )
    described = {
        "uid": grant.uid,
        "name": grant.name,
        "kind": grant.kind.value,
        "client": grant.client,
        "origin": origin,
        "labels": json.dumps(grant.labels) if grant.labels else "{}",
        "scope": json.dumps(grant.scope) if grant.scope else "[]",
        "authorization_serial": grant.authorization_serial,
        "attempt_sequence": 0,
        "adopted_sequence": 0,
    }
    return grant, status_values(grant) | described | values


def _subjects(tx: Transaction, names: Sequence[str]) -> set[str]:
    """Those of NAMES whose tokens other grants exchange."""
    return {
        subject for some in parts(names) for (subject,) in _SUBJECTS.rows(tx.connection, some, {})
    }


def _ids(tx: Transaction, names: Sequence[str]) -> dict[str, int]:
    return dict(row for some in parts(names) for row in _IDS.rows(tx.connection, some, {}))


def parts(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """VALUES, as many at a time as one statement asks for."""
    return (values[at : at + AT_ONCE] for at in range(0, len(values), AT_ONCE))


def _twice(values: Iterable[Any]) -> set[Any]:
    return {value for value, count in Counter(values).items() if count > 1}
