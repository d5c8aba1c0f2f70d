"""Between rows and domain values; the only place that seals and opens a grant's columns."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields as fields_of
from operator import itemgetter
from typing import Any, NamedTuple, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.acting import DAEMON, Actor
from refresher.domain.fields import Trait, fields_with
from refresher.domain.grants import (
    Answer,
    Fault,
    Grant,
    GrantKind,
    GrantState,
    Intent,
    Publication,
    Rejection,
    TokenSet,
)
from refresher.domain.reasons import Reason
from refresher.domain.secret import Secret
from refresher.errors import GrantSetAside, VaultKeyError
from refresher.vault.aside import Aside
from refresher.vault.schema import grants
from refresher.vault.sealing import Fingerprinter, Keyring, Place
from refresher.vault.terms import terms_of

T = TypeVar("T")

Values = dict[str, Any]
"""Column values of one row, ready for SQL."""

DAMAGED = "its row holds what no refresher wrote"

Row = sa.RowMapping | Mapping[str, Any]
"""A whole row, as SQLAlchemy gives it or as ``as_row`` does."""

_ENCODER, _DECODER = json.JSONEncoder(), json.JSONDecoder()

REFRESH_TOKEN = "refresh_token"
ACCESS_TOKEN = "access_token"


LARGEST_NUMBER = 2**62
LATEST = 1e13
"""Beyond any version, counter and unix second that this program writes."""

INTENT = ("intent_sequence", "intent_presented", "intent_first_sent_at", "intent_attempts")


def _refuse_damage(row: Row) -> None:
    """Raise GrantSetAside for what no statement of this program writes.

    SQLite stores any value in any column, and one of a wrong type would only fail later,
    in the middle of the work on everybody's grants.
    """
    for name, is_optional, is_sound in CHECKS:
        value = row[name]
        if not (is_optional if value is None else is_sound(value)):
            raise GrantSetAside(DAMAGED)
    intent = [row[name] is None for name in INTENT]
    is_listed = isinstance(row["scope"], list) and all(map(_is_text, row["scope"]))
    is_half = any(intent) > all(intent)
    if is_half or not is_listed or not isinstance(row["labels"], dict):
        raise GrantSetAside(DAMAGED)


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value < LARGEST_NUMBER


def _is_instant(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < LATEST


def _is_text(value: object) -> bool:
    return isinstance(value, str) and (value.isascii() or _encodes(value))


def _encodes(text: str) -> bool:
    """Whether TEXT has no lone surrogates, which JSON may hold and nothing can send."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_bytes(value: object) -> bool:
    return isinstance(value, bytes)


def _is_json(value: object) -> bool:
    return isinstance(value, dict | list)


_SOUND: Mapping[type[sa.types.TypeEngine[Any]], Callable[[object], bool]] = {
    sa.BigInteger: _is_number,
    sa.Integer: _is_number,
    sa.Float: _is_instant,
    sa.String: _is_text,
    sa.LargeBinary: _is_bytes,
    sa.JSON: _is_json,
}
CHECKS = [(column.name, column.nullable, _SOUND[type(column.type)]) for column in grants.c]
"""What each column may hold, by its type."""


_AS_THEY_ARE = [
    known.name
    for known in fields_of(Grant)
    if known.name
    not in {"kind", "state", "fault", "scope", "terms", "on_probation", "intent", "rejection"}
]
"""Fields of a grant that are what the columns of their names hold."""

_VALUES_OF = itemgetter(*_AS_THEY_ARE)

_KINDS = {kind.value: kind for kind in GrantKind}
_STATES = {state.value: state for state in GrantState}
_FAULTS: Mapping[str | None, Fault | None] = {None: None, **{one.value: one for one in Fault}}


def grant_of(row: Row) -> Grant:
    """The grant in ROW, its secrets left sealed.

    Raises:
        GrantSetAside: the row is damaged.
    """
    _refuse_damage(row)
    try:
        kind, state, fault = _KINDS[row["kind"]], _STATES[row["state"]], _FAULTS[row["fault"]]
        rejection, terms = _rejection_of(row), terms_of(row)
    except (ValueError, LookupError):
        raise GrantSetAside("its row is in a state that nobody knows") from None
    intent = None
    if row["intent_sequence"] is not None:
        intent = Intent(
            sequence=row["intent_sequence"],
            presented=row["intent_presented"],
            first_sent_at=row["intent_first_sent_at"],
            attempts=row["intent_attempts"],
        )
    fields = dict(zip(_AS_THEY_ARE, _VALUES_OF(row), strict=True))
    fields["kind"], fields["state"], fields["fault"] = kind, state, fault
    fields["terms"] = terms
    fields["scope"] = tuple(row["scope"])
    fields["on_probation"] = row["predecessor_sealed"] is not None
    fields["intent"], fields["rejection"] = intent, rejection
    return Grant.of(fields)


NAMES = [column.name for column in grants.c]
_EMPTY: Mapping[str, Callable[[], object]] = {"[]": list, "{}": dict}
"""What nearly every grant has for labels and scope."""
_JSON = [column.name for column in grants.c if isinstance(column.type, sa.JSON)]


def as_row(values: Sequence[Any]) -> Values:
    """A whole row as the driver gives it.

    Raises:
        ValueError: it is damaged.
    """
    row = dict(zip(NAMES, values, strict=True))
    for name in _JSON:
        text = row[name]
        if isinstance(text, str):  # PostgreSQL's driver has read it already
            row[name] = _EMPTY[text]() if text in _EMPTY else json.loads(text)
    return row


def _rejection_of(row: Row) -> Rejection | None:
    """The rejection in ROW, if any.

    Raises:
        ValueError: its answer is one that nobody knows.
    """
    if row["rejected_version"] is None:
        return None
    answer = Answer(row["rejection_answer"])
    return Rejection(row["rejected_version"], answer, row["rejection_until"])


_OUTCOME = fields_with(Trait.OUTCOME)


def status_values(grant: Grant) -> Values:
    """The columns an outcome may change, tokens aside."""
    values = {name: getattr(grant, name) for name in _OUTCOME}
    return values | intent_values(grant.intent) | rejection_values(grant.rejection)


def rejection_values(rejection: Rejection | None) -> Values:
    """The columns of REJECTION; None ends it."""
    return {
        "rejected_version": rejection.version if rejection else None,
        "rejection_answer": rejection.answer.value if rejection else None,
        "rejection_until": rejection.until if rejection else None,
    }


def intent_values(intent: Intent | None) -> Values:
    """The columns of INTENT; None ends it."""
    return {
        "intent_sequence": intent.sequence if intent else None,
        "intent_presented": intent.presented if intent else None,
        "intent_first_sent_at": intent.first_sent_at if intent else None,
        "intent_attempts": intent.attempts if intent else None,
    }


class Transaction(NamedTuple):
    """What an operation works with: one transaction, the cipher, and its instant."""

    connection: Connection
    sealer: "Sealer"
    now: float
    aside: Aside
    by: Actor = DAEMON
    """For whom it is done (``changes``)."""


class Run(Protocol):
    """Runs an operation on the vault, in one transaction."""

    async def __call__(self, operation: Callable[[Transaction], T]) -> T:
        """Run OPERATION, dated now."""


class Sealer:
    """Seals and opens the secrets of a vault."""

    def __init__(self, keyring: Keyring, fingerprint: Fingerprinter) -> None:
        self.keyring = keyring
        self.fingerprint = fingerprint

    def refresh_token_values(
        self, grant: Grant, refresh_token: Secret, *, presented: bytes | None, obtained_at: float
    ) -> Values:
        """The columns of a newly adopted refresh token of GRANT whose predecessor was PRESENTED."""
        place = _place(grant, REFRESH_TOKEN)
        return {
            "refresh_token_sealed": self.keyring.seal(refresh_token.reveal().encode(), place),
            "refresh_token_fingerprint": self.fingerprint(refresh_token),
            "predecessor_fingerprint": presented,
            "refresh_token_obtained_at": obtained_at,
        }

    def access_token_values(self, grant: Grant, tokens: TokenSet) -> Values:
        """The columns of a newly adopted access token of GRANT."""
        assert tokens.access_token is not None
        token, extras = tokens.access_token.reveal(), dict(tokens.extras)
        plain = f"[{_ENCODER.encode(token)}, {_ENCODER.encode(extras) if extras else '{}'}]"
        values: Values = {
            "token_sealed": self.keyring.seal(plain.encode(), _place(grant, ACCESS_TOKEN)),
            "token_type": tokens.token_type,
        }
        if tokens.scope is not None:
            values["granted_scope"] = tokens.scope
        return values

    def refresh_token(self, row: Row) -> Secret:
        """The refresh token in ROW, which must hold one.

        Raises:
            VaultKeyError: no key opens it, or it is not the one of the row's fingerprint.
        """
        found = Secret(self._open(row, "refresh_token_sealed").decode())
        if self.fingerprint(found) != row["refresh_token_fingerprint"]:
            raise VaultKeyError("a refresh token in the vault is not the one of its fingerprint")
        return found

    def predecessor(self, row: Row) -> Secret:
        """The refresh token that the one in ROW, on probation, came from."""
        return Secret(self._open(row, "predecessor_sealed").decode())

    def access_token(self, row: Row) -> tuple[Secret | None, Mapping[str, str]]:
        """The access token in ROW, if any, and the provider's extras."""
        if row["token_sealed"] is None:
            return None, {}
        value, extras = _DECODER.decode(self._open(row, "token_sealed").decode())
        return Secret(value), extras

    def tokens(self, row: Row) -> tuple[Secret | None, Secret | None]:
        """The refresh token and the access token in ROW."""
        held = row["refresh_token_sealed"] is not None
        return self.refresh_token(row) if held else None, self.access_token(row)[0]

    def publication(self, row: Row) -> Publication:
        """Everything of ROW that goes to Redis.

        Raises:
            VaultKeyError: no key opens its access token, and it was not paused for that.
        """
        grant = grant_of(row)
        try:
            access_token, extras = self.access_token(row)
        except VaultKeyError:
            if grant.reason != Reason.UNREADABLE:
                raise
            access_token, extras = None, {}
        return Publication(
            grant=grant,
            access_token=access_token,
            token_type=row["token_type"],
            scope=row["granted_scope"],
            extras=extras,
        )

    def rebound(self, row: Row, after: Grant, values: Values) -> Values:
        """The cells that ROW keeps beside VALUES, sealed for AFTER, which it becomes.

        Whatever names a row otherwise, or gives it another authorization, has to write them. An
        access token that no key opens is dropped: nobody can publish it, and a new one comes.

        Raises:
            VaultKeyError: no key opens a refresh token that the row would keep.
        """
        if _binding(grant_of(row)) == _binding(after):
            return {}
        kept: Values = {}
        for cell, column in CELLS.items():
            if cell in values or row[cell] is None:
                continue
            try:
                kept[cell] = self.keyring.seal(self._open(row, cell), _place(after, column))
            except VaultKeyError:
                if column != ACCESS_TOKEN:
                    raise
                kept[cell] = None
        return kept

    def renewed(self, row: Row, cell: str) -> bytes:
        """What is in CELL of ROW, in the newest format and under the key that seals.

        Raises:
            VaultKeyError: no key opens it.
            GrantSetAside: the row is damaged.
        """
        grant_of(row)
        return self.keyring.seal(self._open(row, cell), _place_in(row, cell))

    def _open(self, row: Row, cell: str) -> bytes:
        """What is in CELL of ROW, of which ``grant_of`` has found that it is not damaged."""
        return self.keyring.open(row[cell], _place_in(row, cell))


CELLS = {
    "refresh_token_sealed": REFRESH_TOKEN,
    "predecessor_sealed": REFRESH_TOKEN,
    "token_sealed": ACCESS_TOKEN,
}
"""The sealed columns of a grant, and what each is sealed as: a predecessor is moved as it is."""


def _binding(grant: Grant) -> tuple[str | int | None, ...]:
    """What decides whose a row's tokens are, and to which server they may be sent."""
    return grant.name, grant.client, grant.authorization_serial


def _place(grant: Grant, column: str) -> Place:
    return Place(grant.uid, column, _binding(grant))


def _place_in(row: Row, cell: str) -> Place:
    binding = (row["name"], row["client"], row["authorization_serial"])
    return Place(row["uid"], CELLS[cell], binding)
