"""Why a grant is in its state: short words, published, logged and shown by ``status``.

What follows a colon is more precise: the error code of a server (``revoked:invalid_grant``)
or what kept a request from being answered (``unreachable:dns``). ``repairs`` says for each
of them what helps.
"""


class Reason:
    """The words; a grant that is fresh and never failed has none."""

    AWAITING_LOGIN = "awaiting_login"
    AWAITING_REFRESH = "awaiting_refresh"
    """It has a refresh token and no access token that lives: a refresh is due."""
    OVERDUE = "overdue"
    """Its token ended before its refresh began."""
    HELD_BACK = "held_back"
    """Its refresh waits for others: the endpoint fails, or the client is rejected."""

    UNREACHABLE = "unreachable"
    """The request could not leave: name, connection, TLS, proxy."""
    SUBJECT_MISSING = "subject_missing"
    """The grant whose token it exchanges, which follows, has none that lives."""
    SERVER_BUSY = "server_busy"
    """The server said "later"."""
    OUTCOME_UNKNOWN = "outcome_unknown"
    """A request left, and nobody knows what became of it."""
    UNEXPLAINED = "unexplained"
    """Refused without a word that is an authorization server's: an empty answer, a gateway."""
    REQUEST_REJECTED = "request_rejected"
    """``invalid_request``, or a word that nobody here knows."""
    TOO_EARLY = "too_early"
    """The server refreshes only in the last part of a token's life."""
    NO_ACCESS_TOKEN = "no_access_token"
    """A refresh token came alone; an access token is asked for with it."""
    SCOPE_NARROWED = "scope_narrowed"
    """Not all of the scope that was asked for was granted; the values that are missing follow."""
    NO_PROGRESS = "no_progress"
    """The same access token came back."""
    ANSWER_KEPT = "answer_kept"
    """An answer came whole that nobody can read; it is kept, and asked for again late."""
    ANSWER_UNREAD = "answer_unread"
    """An answer is kept that a bug of ours could not read."""
    INTERNAL_ERROR = "internal_error"
    """A bug of ours kept the exchange from being judged."""

    REFUSED = "refused"
    """Doubted: a refresh token that was good before is refused; it is asked for again."""
    NOT_AUTHORIZED = "not_authorized"
    """The server's word about the client holds for this grant alone: others are served."""
    CLIENT_REJECTED = "client_rejected"
    MISCONFIGURED = "misconfigured"
    PROOF_DEMANDED = "proof_demanded"
    """The server wants DPoP proofs (RFC 9449); the refresh token may be as good as ever."""

    ROTATION_LOST = "rotation_lost"
    """Finally rejected after an exchange whose outcome never became known."""
    REVOKED = "revoked"
    """Finally rejected with every earlier exchange accounted for."""
    RESTORED_COPY = "restored_copy"
    """Finally rejected, and the vault is a copy that may be older than the last rotation."""
    NO_REFRESH_TOKEN = "no_refresh_token"
    REVOKED_HERE = "revoked_here"
    """An operator revoked it with `refresher revoke`."""
    REMOVED_HERE = "removed_here"
    """An operator removed it with `refresher remove`."""
    PAUSED_HERE = "paused_here"
    """An operator paused it with `refresher pause`; what was told of it before follows."""
    EXPORTED_HERE = "exported_here"
    """An operator printed its refresh token with `refresher export`: it may have another owner."""
    TOKEN_ENDED = "token_ended"
    """A static token, or an access token that renews its grant, reached its end."""
    TOKEN_REJECTED = "token_rejected"
    """A consumer was refused with a static token."""
    UNREADABLE = "unreadable"
    """The vault's key does not open its tokens: an old key was taken away too early."""
    DAMAGED = "damaged"
    """Its row in the vault cannot be read or written; every other grant's can."""
    SEED_SPENT = "seed_spent"
    """The configured refresh token was adopted once before; its successor is gone."""


BOUND = "dpop"
"""Detail of ``REFUSED``: the refresh token may be bound to a key that nobody has here."""


def worded(reason: str, detail: str | None) -> str:
    """REASON with its DETAIL behind a colon, short enough for its column."""
    return reason if not detail else f"{reason}:{detail}"[:LONGEST]


LONGEST = 128
"""Characters of a reason with its detail."""
