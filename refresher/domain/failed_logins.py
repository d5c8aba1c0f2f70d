"""Why a login brought no tokens, and what mends it: every mistake a person can make is named."""

from typing import assert_never

from refresher.domain.clients import Client
from refresher.domain.outcomes import (
    AnswerUnread,
    ClientRejected,
    GrantRejected,
    Misconfigured,
    NotSent,
    Outcome,
    OutcomeUnknown,
    ProofDemanded,
    Refreshed,
    RefreshTokenOnly,
    RequestRejected,
    SubjectMissing,
    TooEarly,
    Transient,
)
from refresher.domain.repairs import (
    CLIENT_CANDIDATES,
    NOT_A_TOKEN_ENDPOINT,
    PLAIN_TO_TLS,
    UNREACHABLE,
    proof_demanded,
    wrong_request,
)


def explained(outcome: Outcome, client: Client) -> str:
    """Why the code of a login of CLIENT brought no tokens, and what to do about it."""
    match outcome:
        case GrantRejected(error=error):
            # oidc-provider says invalid_grant and no more for a missing proof.
            proof = f"; or {proof_demanded(client.name)}" if client.endpoints.offers_proof else ""
            return (
                f"the server refused the code ({error}): it may have been used or have expired, "
                f"or the redirect URI differs from the registered one; start the login again{proof}"
            )
        case ClientRejected(error=error):
            return f"the server refused client {client.name} itself ({error}): {CLIENT_CANDIDATES}"
        case Misconfigured(error=error):
            mend = wrong_request(client.name, error)
            return f"the server refused the request ({error}): {mend}"
        case RequestRejected(error=error):
            return (
                f"the server refused the request ({error}): {CLIENT_CANDIDATES}, and what else it "
                f"wants of client {client.name}: code_parameters, code_headers, pkce or "
                "redirect_uri_parameter"
            )
        case ProofDemanded():
            return proof_demanded(client.name)
        case NotSent(reason=reason):
            mend = UNREACHABLE.get(reason, "check its token_endpoint and the network")
            return (
                f"the token endpoint of client {client.name} cannot be reached ({reason}): {mend}"
            )
        case Transient(is_own_word=False, reason=reason):
            return f"the server gave no reason ({reason}): {_unsaid(client.name, reason)}"
        case TooEarly(error=reason) | Transient(reason=reason) | OutcomeUnknown(reason=reason):
            return f"the exchange of the code failed ({reason}): start the login again"
        case AnswerUnread():
            return "a bug kept the server's answer from being read: start the login again"
        case RefreshTokenOnly() | Refreshed() | SubjectMissing():
            return "the server sent no usable access token: start the login again"
        case _:
            assert_never(outcome)


def _unsaid(name: str, reason: str) -> str:
    if reason == "plain_to_tls_port":
        return f"of client {name}, {PLAIN_TO_TLS}"
    if reason in NOT_A_TOKEN_ENDPOINT:
        return (
            f"something else answers at the token_endpoint of client {name}: compare it with the "
            "provider's documentation"
        )
    return f"for client {name} {CLIENT_CANDIDATES}"
