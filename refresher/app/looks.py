"""What commands can look at: JSON in, JSON out, in pages that keep no exchange waiting.

An answer holds no more than a page. What follows is asked for with the name behind which to go
on (``next`` of one answer is ``after`` of the next question), so that neither daemon nor
command ever holds all there is.
"""

from collections.abc import Mapping

from refresher.app import answers, calls
from refresher.app.calls import Operation, Taking
from refresher.app.views import change_view, kept_view, parked_views, rescued_view, view
from refresher.domain.clients import Client
from refresher.domain.grants import Grant
from refresher.engine.keeping import waiting
from refresher.errors import UnknownGrant
from refresher.vault.listing import Details, Wanted
from refresher.vault.vault import Vault


class Looks:
    """The questions by name; nothing changes by any of them."""

    def __init__(self, vault: Vault, clients: Mapping[str, Client]) -> None:
        self._vault = vault
        self._clients = clients

    def by_name(self) -> dict[str, Operation]:
        """Every question, as the control socket offers it."""
        return {
            "overview": Taking(calls.Overview, self.overview),
            "grants": Taking(calls.Grants, self.grants),
            "grant": Taking(calls.OneGrant, self.grant),
            "revocations": Taking(calls.Revocations, self.revocations),
            "kept": Taking(calls.Kept, self.kept),
            "changes": Taking(calls.Changes, self.changes),
        }

    async def overview(self, call: calls.Overview) -> answers.Summary:
        """Totals by state, and up to ``limit`` grants of each kind of trouble, in no order."""
        grants = await self._vault.listing.urgent(call.limit)
        totals = await self._vault.listing.counts()
        totals.pop("removed", None)
        return {"totals": totals, "grants": [view(grant) for grant in grants]}

    async def grants(self, call: calls.Grants) -> answers.GrantPage:
        """A page of grants by name; ``next`` is None behind the last one."""
        wanted = Wanted(call.state, call.client)
        found = await self._vault.listing.grants(after=call.after, limit=call.limit, wanted=wanted)
        follows = len(found) == call.limit
        return {
            "grants": [view(grant) for grant in found],
            "next": found[-1].name if follows else None,
        }

    async def grant(self, call: calls.OneGrant) -> answers.FullView:
        """Everything known of one grant.

        Raises:
            UnknownGrant: there is none of this name.
        """
        details = await self._vault.listing.details(call.name)
        if details is None:
            raise UnknownGrant(call.name)
        return full_view(details, self._clients.get(details.grant.client or ""))

    async def revocations(self, call: calls.Revocations) -> answers.RevocationPage:
        """A page of what has still to be revoked, by grant."""
        parked = await self._vault.listing.revocations(
            after=call.after, limit=call.limit, name=call.name
        )
        names = {one.name for one in parked}
        return {
            "revocations": parked_views(parked),
            "next": max(names) if len(names) == call.limit else None,
        }

    async def kept(self, call: calls.Kept) -> answers.KeptPage:
        """A page of the answers that found no grant, the oldest first; no secret of them.

        Those in the rescue file, which wait for a row or for a key, stand on the first page.
        """
        found = await self._vault.kept.page(after=call.after, limit=call.limit)
        rescued = waiting(self._vault) if call.after == 0 else []
        return {
            "kept": [rescued_view(one) for one in rescued] + [kept_view(one) for one in found],
            "next": found[-1].id if len(found) == call.limit else None,
        }

    async def changes(self, call: calls.Changes) -> answers.ChangePage:
        """A page of who changed what, the newest first.

        With a name: of the grant, and what was ordered for all grants of its client.
        """
        found = await self._vault.changes.page(after=call.after, limit=call.limit, grant=call.name)
        return {
            "changes": [change_view(one) for one in found],
            "next": found[-1].id if len(found) == call.limit else None,
        }


def full_view(details: Details, client: Client | None) -> answers.FullView:
    """Everything about a grant but its secrets, with what its client's settings add."""
    grant = details.grant
    return {
        **view(grant),
        "origin": grant.origin,
        "granted_scope": details.granted_scope.split(),
        "client_scope": [] if client is None else list(client.scope),
        "authorized_subject": grant.authorized_subject,
        "refresh_token_obtained_at": grant.refresh_token_obtained_at,
        "on_probation": grant.on_probation,
        "served_at": grant.served_at,
        "failing_since": grant.failing_since,
        "fault": None if grant.fault is None else grant.fault.value,
        "refused_at": grant.refused_at,
        "refusals": grant.refusals,
        "attempts": grant.attempt_sequence,
        "exchange_out": details.is_out,
        "claimed_by": details.claimed_by,
        "intent": _intent(grant),
        "requested_at": grant.requested_at,
        "asked_for": grant.is_asked_for,
        "rejection": _rejection(grant),
        "kept": [
            {"kind": one.kind, "count": one.count, "first_at": one.first_at, "last_at": one.last_at}
            for one in details.kept
        ],
        "terms": {
            "subject": grant.terms.subject,
            "subject_token": grant.terms.subject_token.value,
            "audience": list(grant.terms.audience),
            "resource": list(grant.terms.resource),
        },
        "rotation": None if client is None else str(client.quirks.rotation),
        "on_unknown_outcome": None if client is None else client.policy.on_unknown_outcome.value,
        "client_known": client is not None,
    }


def _intent(grant: Grant) -> answers.Intent | None:
    """The exchange of GRANT that is open: sent, or about to be, and not answered for good."""
    if grant.intent is None:
        return None
    return {"first_sent_at": grant.intent.first_sent_at, "attempts": grant.intent.attempts}


def _rejection(grant: Grant) -> answers.Rejection | None:
    """What consumers said last of the current token of GRANT, and what was answered."""
    if grant.rejection is None:
        return None
    return {
        "version": grant.rejection.version,
        "answer": grant.rejection.answer.value,
        "until": grant.rejection.until,
    }
