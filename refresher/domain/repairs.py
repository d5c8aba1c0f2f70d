"""What helps a grant: the command, the setting, or until when to wait.

Every state but ``fresh`` has one, for every reason (a test walks through all of them): a
person woken at night reads this line first.
"""

from refresher.domain.grants import Grant, GrantKind, GrantState
from refresher.domain.reasons import BOUND, Reason
from refresher.times import written

NO_DESCRIPTORS = "no_descriptors"

NOT_DISCOVERED, NOT_REGISTERED = "not_discovered", "not_registered"
"""What a client can lack (``Client.missing``): nothing is sent for it."""

UNREACHABLE = {
    "dns": "check the host name in its token_endpoint and this machine's name server",
    "invalid_url": "correct its token_endpoint",
    "refused": "nothing listens at its token_endpoint: check host and port",
    "proxy": "check its proxy",
    "ca_bundle": "check the file of its ca_bundle",
    "client_certificate": "check the files of its client_certificate and client_certificate_key",
    "client_private_key": "check its client_private_key, which cannot sign by assertion_algorithm",
    "tls_certificate_expired": "the certificate of its token_endpoint has expired: only the "
    "server can mend that",
    "tls_certificate_untrusted": "its certificate is of an authority unknown here: set ca_bundle",
    "tls_certificate_self_signed": "its certificate is self-signed: set ca_bundle",
    "tls_certificate_hostname": "its certificate is for another host: check its token_endpoint",
    "tls_to_plain_port": "its token_endpoint says https and the port speaks plain HTTP: correct "
    "the scheme or the port",
    NO_DESCRIPTORS: "this process is out of file descriptors: raise LimitNOFILE",
}
"""What to look at where a request could not leave, beside waiting."""

PLAIN_TO_TLS = "its token_endpoint says http and the port speaks TLS: write https"

OVERDUE = (
    "see that the client is in the settings, and that its concurrency and rate are high enough "
    "for its grants"
)
"""What mends grants that are long due at an endpoint that is well."""

INCIDENT = (
    "look at the status page of its provider, and wait: nothing is lost, and the daemon asks again"
)
"""What mends a server that refuses grants which it served."""

VAULT = "free the disk, or mend the permissions of the vault's folder: the daemon goes on by itself"
"""What mends a vault that cannot be written."""

NOT_A_TOKEN_ENDPOINT = {"http_404", "http_405", "html_page"}
"""Refusals that come from something else than an authorization server."""

CLIENT_CANDIDATES = (
    "check client_id and client_secret, then client_authentication, encode_basic and placement"
)


def repair(grant: Grant) -> str | None:
    """What mends GRANT, in one line; None where nothing is to be mended."""
    match grant.state:
        case GrantState.FRESH if grant.status_reason == Reason.NO_REFRESH_TOKEN:
            return _refresh_token_wanted(grant)
        case GrantState.FRESH if grant.status_reason == Reason.TOO_EARLY:
            return _refresh_window_wanted(grant)
        case GrantState.FRESH if grant.status_reason == Reason.SCOPE_NARROWED:
            return _scope_wanted(grant)
        case GrantState.FRESH:
            return None if grant.end_announced is None else new_login_before(grant)
        case GrantState.PENDING if not grant.is_renewable:
            return _new_authorization(grant)
        case GrantState.PENDING if grant.reason in {None, Reason.AWAITING_REFRESH}:
            return _wait(grant, "refreshes")
        case GrantState.REAUTHORIZATION_REQUIRED:
            return _reauthorization(grant)
        case GrantState.PAUSED:
            return _decision(grant)
        case GrantState.REMOVED:
            return f"refresher login {grant.name} or an import brings it back"
        case GrantState.PENDING | GrantState.DEGRADED | GrantState.EXPIRED:
            return _of_a_failure(grant)


def not_ready(word: str, name: str | None) -> str:
    """What helps where the client NAME lacks what WORD says (``Client.missing``)."""
    if word == NOT_DISCOVERED:
        return (
            f"the metadata of the server of client {name} were not read yet: `refresher discover "
            f"{name}` reads them and says what is wrong"
        )
    return f"client {name} has no client_id: `refresher register {name}`, or set it"


def new_login_before(grant: Grant) -> str:
    """What mends a known end of the refresh token of GRANT."""
    ends_at = _at(grant.refresh_token_expires_at)
    return f"refresher login {grant.name}, before its refresh token ends at {ends_at}"


def wrong_client(name: str | None) -> str:
    """What mends a client that its server refuses."""
    return f"correct client {name}: {CLIENT_CANDIDATES}; then send SIGHUP"


def wrong_request(name: str, word: str) -> str:
    """What mends a request of the client NAME that its server answers with the error WORD."""
    return _misconfigured(f"client {name}", word)


def proof_demanded(name: str) -> str:
    """What helps where the server of the client NAME wants DPoP proofs."""
    return (
        f"the server wants DPoP proofs (RFC 9449) of client {name}, which refresher does not make: "
        "tokens bound to a key are of no use to consumers without it; register the client without "
        "dpop_bound_access_tokens, or ask for bearer tokens; nothing is lost"
    )


def _of_a_failure(grant: Grant) -> str:
    """What helps where the daemon goes on by itself, and what else may."""
    hint = _about_the_server(grant) or _about_the_client(grant)
    again, login = _wait(grant, "tries again"), f"refresher login {grant.name}"
    if grant.kind.renews_itself:
        hint = _of_itself(grant) or hint
        return again if hint is None else f"{hint}; {again}"
    match grant.status_reason:
        case Reason.OUTCOME_UNKNOWN | Reason.ANSWER_KEPT if hint is None:
            return (
                f"{_wait(grant, 'sends the same refresh token again')}; if that is refused, its "
                f"successor was lost: {login}"
            )
        case Reason.REFUSED if grant.reason_detail == BOUND:
            return f"{_perhaps_bound(grant)}; or {_wait(grant, 'asks once more')}"
        case Reason.REFUSED:
            return f"{login}; or {_wait(grant, 'asks once more')}"
        case Reason.NOT_AUTHORIZED | Reason.UNEXPLAINED | Reason.REQUEST_REJECTED:
            return f"{hint}; or: {login}; or {again}"
        case Reason.NO_REFRESH_TOKEN:
            return _refresh_token_wanted(grant)
        case Reason.INTERNAL_ERROR:
            return f"{again}; report the traceback of task.restarted in the log"
        case _:
            return again if hint is None else f"{hint}; {again}"


REFUSED_KINDS = {
    GrantKind.CLIENT: "what the client asks for is refused: check client_id, scope and audience",
    GrantKind.ASSERTION: "what the client signs is refused: check client_private_key, "
    "assertion_claims and subject, and whether the server knows the key",
    GrantKind.EXCHANGE: "the token of its subject is refused: check subject and audience, and "
    "whether the client may exchange it",
}
"""What to look at where a grant that renews itself is refused."""


def _of_itself(grant: Grant) -> str | None:
    """What to look at where GRANT, which renews itself, fails in a way of its own."""
    client, subject = f"client {grant.client}", grant.terms.subject
    match grant.status_reason:
        case Reason.SUBJECT_MISSING:
            return f"{subject}, whose token it exchanges, has none: refresher status {subject}"
        case Reason.REFUSED:
            return f"{client}: {REFUSED_KINDS[grant.kind]}; then send SIGHUP"
        case Reason.MISCONFIGURED if grant.reason_detail == "invalid_scope":
            return f"correct the scope of {client} or of the grant, then send SIGHUP"
        case Reason.MISCONFIGURED if grant.reason_detail == "invalid_target":
            return "correct audience and resource of the grant, then send SIGHUP"
        case _:
            return None


def _about_the_server(grant: Grant) -> str | None:
    """What to look at between here and the token endpoint."""
    client, detail = f"client {grant.client}", grant.reason_detail
    match grant.status_reason:
        case Reason.UNREACHABLE if detail in {NOT_DISCOVERED, NOT_REGISTERED}:
            return not_ready(detail, grant.client)
        case Reason.UNREACHABLE:
            return f"{client}: " + UNREACHABLE.get(
                detail, "check its token_endpoint and the network"
            )
        case Reason.OUTCOME_UNKNOWN if detail == "plain_to_tls_port":
            return f"{client}: {PLAIN_TO_TLS}"
        case Reason.UNEXPLAINED:
            return _unexplained(grant, client)
        case _:
            return None


def _about_the_client(grant: Grant) -> str | None:
    """What to correct in the settings of the client, or at its registration."""
    client, detail = f"client {grant.client}", grant.reason_detail
    match grant.status_reason:
        case Reason.REQUEST_REJECTED:
            return _misunderstood(client, detail)
        case Reason.MISCONFIGURED:
            return f"{_misconfigured(client, detail)}, then send SIGHUP"
        case Reason.CLIENT_REJECTED:
            return wrong_client(grant.client)
        case Reason.PROOF_DEMANDED:
            return proof_demanded(str(grant.client))
        case Reason.NOT_AUTHORIZED:
            return (
                f"others of {client} are served: let this account or its organization allow the "
                "client"
            )
        case Reason.TOO_EARLY:
            return _refresh_window_wanted(grant)
        case _:
            return None


def _unexplained(grant: Grant, client: str) -> str:
    detail = grant.reason_detail
    setting = "its token_endpoint, client_authentication and placement"
    if detail in NOT_A_TOKEN_ENDPOINT:
        setting = "its token_endpoint"
    is_out = grant.intent is not None and not grant.kind.renews_itself
    spent = ", and its refresh token may be spent" if is_out else ""
    return (
        f"{client} was refused {grant.failures} times since {_at(grant.failing_since)} without a "
        f"reason ({detail}){spent}: check {setting}"
    )


def _perhaps_bound(grant: Grant) -> str:
    return (
        f"the server of client {grant.client} knows DPoP (RFC 9449), and refuses so what is bound "
        "to a key that refresher does not have: the likely cause if another program got this "
        f"refresh token with DPoP. `refresher login {grant.name}` gets one that is not bound; if "
        "it fails too, register the client without dpop_bound_access_tokens"
    )


def _misunderstood(client: str, word: str) -> str:
    if word == "invalid_request":
        return (
            f"the server misses something in the request: for {client} try "
            "send_redirect_uri_on_refresh, placement or token_parameters"
        )
    return (
        f"the server answers {client} with an error unknown here ({word}): if it is permanent, "
        "list it in rejection_codes, else in transient_codes"
    )


def _misconfigured(client: str, word: str) -> str:
    if word.startswith("redirected"):
        place = word.partition(":")[2]
        shown = f" to {place}" if place else ""
        return f"the server redirects{shown}: set the token_endpoint of {client} to where it leads"
    if "redirect_uri" in word:
        return f"register the redirect_uris of {client} at the server, exactly as they are written"
    if word == "invalid_scope":
        return f"correct the scope of {client}, or turn send_scope_on_refresh off"
    if word == "invalid_target":
        return f"correct the resource of {client}, or turn send_resource_on_refresh off"
    if word == "invalid_request":
        return _misunderstood(client, word)
    return f"correct {client} in the settings ({word})"


def _reauthorization(grant: Grant) -> str:
    login = _new_authorization(grant)
    if grant.kind is GrantKind.STATIC:
        return login
    if grant.due_at is not None:
        return f"{_wait(grant, 'asks once more')}; or: {login}"
    match grant.status_reason:
        case Reason.NO_REFRESH_TOKEN:
            return _refresh_token_wanted(grant)
        case Reason.REVOKED if grant.served_at is None:
            return (
                f"{login}; an imported refresh token is refused so if it was issued to another "
                f"client than {grant.client}"
            )
        case Reason.REVOKED | Reason.ROTATION_LOST | Reason.RESTORED_COPY:
            return f"{login}; if the server was wrong: refresher refresh --lost {grant.name}"
        case _:
            return login


def _decision(grant: Grant) -> str:
    """What an operator decides about a paused grant."""
    match grant.status_reason:
        case Reason.PAUSED_HERE if grant.due_at is not None:
            return (
                f"nothing is sent until {_at(grant.due_at)}; refresher resume {grant.name} ends "
                "the pause now"
            )
        case Reason.PAUSED_HERE:
            return f"refresher resume {grant.name} ends the pause"
        case Reason.EXPORTED_HERE:
            return (
                f"refresher remove {grant.name}, for its refresh token was exported; or, if nobody "
                f"else uses that: refresher resume {grant.name}"
            )
        case Reason.UNREADABLE:
            return (
                "put the old key back into the key file, send SIGHUP, then refresher resume "
                f"{grant.name}; if somebody altered the vault: {_new_authorization(grant)}"
            )
        case Reason.ANSWER_UNREAD:
            return f"a newer refresher may read its answer; or: refresher login {grant.name}"
        case _:
            return (
                f"refresher resume {grant.name} sends the same refresh token again; or: "
                f"refresher login {grant.name}"
            )


def _new_authorization(grant: Grant) -> str:
    verb = "set-token" if grant.kind is GrantKind.STATIC else "login"
    return f"refresher {verb} {grant.name}"


def _refresh_token_wanted(grant: Grant) -> str:
    return (
        f"refresher login {grant.name}, with what makes the server of client {grant.client} give a "
        "refresh token: scope offline_access, or authorization_parameters such as "
        'access_type = "offline" and prompt = "consent"'
    )


def _scope_wanted(grant: Grant) -> str:
    return (
        f"{grant.reason_detail} was not granted: refresher login {grant.name} and consent to it, "
        "or ask for less scope"
    )


def _refresh_window_wanted(grant: Grant) -> str:
    return f"set refresh_window of client {grant.client} to what its server documents"


def _wait(grant: Grant, what: str) -> str:
    if grant.due_at is None:
        return f"refresher refresh {grant.name}"
    return f"wait until {_at(grant.due_at)}: the daemon {what}"


def _at(instant: float | None) -> str:
    return "a while" if instant is None else written(instant)
