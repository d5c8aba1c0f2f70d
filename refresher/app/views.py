"""How what the vault holds is shown to people and programs; no secret is in it."""

from collections.abc import Iterable

from refresher.app import answers
from refresher.domain.grants import Grant
from refresher.domain.repairs import repair
from refresher.engine.keeping import Waiting
from refresher.vault.changes import Change
from refresher.vault.kept import Entry
from refresher.vault.revocations import Parked


def view(grant: Grant) -> answers.GrantView:
    """GRANT as people and programs see it: everything but its secrets."""
    return {
        "name": grant.name,
        "client": grant.client,
        "kind": grant.kind.value,
        "state": grant.state.value,
        "reason": grant.reason,
        "since": grant.since,
        "version": grant.version,
        "issued_at": grant.issued_at,
        "expires_at": grant.expires_at,
        "next_attempt_at": grant.due_at,
        "failures": grant.failures,
        "exchange_open": grant.intent is not None,
        "refresh_token": grant.is_renewable,
        "refresh_token_expires_at": grant.refresh_token_expires_at,
        "scope": list(grant.scope),
        "authorized_by": grant.authorized_by,
        "labels": dict(grant.labels),
        "repair": repair(grant),
    }


def parked_views(parked: Iterable[Parked]) -> list[answers.ParkedView]:
    """What has still to be revoked, by the grant it is of, the oldest first."""
    by_grant: dict[str, list[Parked]] = {}
    for one in parked:
        by_grant.setdefault(one.uid, []).append(one)
    return [
        {
            "name": several[0].name,
            "client": several[0].client,
            "count": len(several),
            "since": min(one.parked_at for one in several),
            "attempts": max(one.attempts for one in several),
            "next_attempt_at": min(one.due_at for one in several),
            "until": max(one.ends_at for one in several),
        }
        for several in by_grant.values()
    ]


def kept_view(entry: Entry) -> answers.KeptView:
    """A kept answer, without what is in it."""
    return {
        "id": str(entry.id),
        "kind": entry.kind,
        "grant": entry.name,
        "client": entry.client,
        "received_at": entry.received_at,
        "refresh_token": entry.has_refresh_token,
        "opened": entry.is_opened,
    }


def rescued_view(rescued: Waiting) -> answers.KeptView:
    """An answer in the rescue file."""
    return {
        "id": rescued.id,
        "kind": "rescued",
        "grant": rescued.name,
        "client": None,
        "received_at": None,
        "refresh_token": None,
        "opened": rescued.name is not None,
    }


def change_view(change: Change) -> answers.ChangeView:
    """A line of the vault's log."""
    return {
        "id": change.id,
        "at": change.at,
        "by": change.by,
        "uid": change.uid,
        "pid": change.pid,
        "what": change.what,
        "grant": change.grant,
        "client": change.client,
        "count": change.count,
        "detail": change.detail,
    }
