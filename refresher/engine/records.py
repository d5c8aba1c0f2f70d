"""What the rescue file holds: as much of an answer as a later process needs to commit it.

A record is one line of JSON; the bytes of an answer that was not understood follow it as
they came, so that the largest answer needs hardly more room than itself.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from refresher.domain.adoption import Transition
from refresher.domain.fields import Trait, fields_with
from refresher.domain.grants import Claim, Fault, Grant, GrantKind, GrantState, Intent, TokenSet
from refresher.domain.logins import NO_LOGIN, Consent
from refresher.domain.outcomes import TokenAnswer
from refresher.domain.renewal import FORGOTTEN
from refresher.domain.secret import Secret
from refresher.vault.kept import intent_fields, raw_fields, read_intent, read_raw

_AFTER = tuple(name for name in fields_with(Trait.OUTCOME) if name not in {"state", "revision"})
"""What an answer does to its grant besides its state, its intent and its tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """One record, read: which grant it belongs to, and what was to be committed."""

    name: str
    uid: str
    authorization_serial: int
    intent: Intent | None
    """Of the exchange; None for a login."""
    consent: Consent
    """Of a login."""
    content: Mapping[str, Any] = field(repr=False)

    @property
    def stray(self) -> Grant:
        """A grant to keep the answer under when the vault does not know the real one."""
        return Grant(
            id=0,
            uid=self.uid,
            name=self.name,
            kind=GrantKind.REFRESHABLE,
            client=None,
            origin="runtime",
            authorization_serial=self.authorization_serial,
        )

    def is_lost_in(self, stored: Grant) -> bool:
        """Whether tokens that the vault had taken are not in the grant as it is STORED now."""
        if self.content["tokens"] is None or self.uid != stored.uid:
            return False
        if self.authorization_serial != stored.authorization_serial:
            return False  # a login that it has, or a newer authorization
        return self.intent is None or stored.adopted_sequence < self.intent.sequence

    def on(self, stored: Grant) -> tuple[Claim, Transition]:
        """The claim, and what its answer makes of the grant as it is STORED now."""
        claimed = replace(
            stored,
            uid=self.uid,
            authorization_serial=self.authorization_serial,
            intent=self.intent,
        )
        after = dict(self.content["after"])
        if after.get("fault") is not None:
            after["fault"] = Fault(after["fault"])
        grant = replace(
            claimed,
            state=GrantState(after["state"]),
            intent=self.intent if after["is_open"] else None,
            **{name: after[name] for name in _AFTER if name in after},
        )
        tokens, kept = self.content["tokens"], self.content["kept"]
        change = Transition(
            grant=grant,
            tokens=None if tokens is None else _read_tokens(tokens),
            kept=None if kept is None else read_raw(kept),
        )
        return Claim(grant=claimed, renewal=FORGOTTEN, access_token=None), change


def exchange_record(claim: Claim, change: Transition) -> Callable[[], bytes] | None:
    """Makes the record of an exchange's answer; None when nothing came that could be lost."""
    if change.tokens is None and change.kept is None:
        return None
    return partial(_record, claim.grant, claim.intent, change, NO_LOGIN)


def login_record(grant: Grant, change: Transition, consent: Consent) -> Callable[[], bytes]:
    """Makes the record of the tokens that a login brought for GRANT."""
    return partial(_record, grant, None, change, consent)


def read_record(record: bytes) -> Rescued:
    """RECORD as one of the functions above wrote it."""
    line, _, body = record.partition(b"\n")
    content = json.loads(line.decode(errors="surrogatepass"))
    if body:
        content["kept"]["body"] = b64encode(body).decode()
    intent = content["intent"]
    return Rescued(
        name=content["name"],
        uid=content["uid"],
        authorization_serial=content["authorization_serial"],
        intent=None if intent is None else read_intent(intent),
        # An older version wrote no id.
        consent=Consent(content.get("login"), content["redirect_uri"]),
        content=content,
    )


def _record(grant: Grant, intent: Intent | None, change: Transition, consent: Consent) -> bytes:
    after = change.grant
    content = {
        "name": grant.name,
        "uid": grant.uid,
        "authorization_serial": grant.authorization_serial,
        "intent": None if intent is None else intent_fields(intent),
        "login": consent.login,
        "redirect_uri": consent.redirect_uri,
        "after": {
            "state": after.state.value,
            "is_open": after.intent is not None,
            **{name: getattr(after, name) for name in _AFTER},
        },
        "tokens": None if change.tokens is None else _token_fields(change.tokens),
        "kept": None if change.kept is None else raw_fields(replace(change.kept, body=b"")),
    }
    # Not escaped: an answer in another script than Latin would be three times as long.
    line = json.dumps(content, ensure_ascii=False).encode(errors="surrogatepass")
    return line + b"\n" + (b"" if change.kept is None else change.kept.body)


def _token_fields(tokens: TokenSet) -> dict[str, Any]:
    access, refresh = tokens.access_token, tokens.refresh_token
    return asdict(replace(tokens, access_token=None, refresh_token=None)) | {
        "access_token": None if access is None else access.reveal(),
        "refresh_token": None if refresh is None else refresh.reveal(),
        "extras": dict(tokens.extras),
    }


def _read_tokens(fields: Mapping[str, Any]) -> TokenSet:
    secrets = {
        name: None if fields[name] is None else Secret(fields[name])
        for name in ("access_token", "refresh_token")
    }
    return TokenSet(**dict(fields) | secrets)


def as_it_came(answer: TokenAnswer) -> bytes:
    """ANSWER written as a token response again (RFC 6749 5.1)."""
    fields = {
        "access_token": answer.access_token and answer.access_token.reveal(),
        "refresh_token": answer.refresh_token and answer.refresh_token.reveal(),
        "token_type": answer.token_type,
        "expires_in": answer.expires_in,
        "refresh_token_expires_in": answer.refresh_token_expires_in,
        "scope": answer.scope,
    }
    return json.dumps(dict(answer.extras) | fields).encode()
