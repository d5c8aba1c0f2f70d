"""No red without a repair: what the status, the log and the command line tell to do."""

from dataclasses import replace

import pytest

from refresher.domain.grants import Grant, GrantKind, GrantState, Intent
from refresher.domain.reasons import LONGEST, Reason, worded
from refresher.domain.repairs import repair

NOW = 1_800_000_000.0
THEN = "2027-01-15T08:00:00Z"

GRANT = Grant(
    id=1,
    uid="uid",
    name="acme",
    kind=GrantKind.REFRESHABLE,
    client="crm",
    origin="settings",
    refresh_token_fingerprint=b"fingerprint",
    served_at=NOW - 60,
    due_at=NOW,
    failures=7,
    failing_since=NOW,
)
STATIC = replace(GRANT, kind=GrantKind.STATIC, client=None, refresh_token_fingerprint=None)
EMPTY = replace(GRANT, refresh_token_fingerprint=None, due_at=None)
OPEN = Intent(sequence=1, presented=b"fingerprint", first_sent_at=NOW, attempts=1)

REASONS = sorted(value for name, value in vars(Reason).items() if name.isupper())


@pytest.mark.parametrize("reason", [*REASONS, "a_word_of_a_newer_version"])
@pytest.mark.parametrize("state", [state for state in GrantState if state is not GrantState.FRESH])
@pytest.mark.parametrize("grant", [GRANT, EMPTY, STATIC], ids=["refreshed", "empty", "static"])
def test_every_state_but_fresh_has_something_that_helps(
    grant: Grant, state: GrantState, reason: str
) -> None:
    told = repair(replace(grant, state=state, reason=worded(reason, "a_detail")))
    assert told is not None
    assert any(word in told for word in ("refresher ", "wait until", "check", "correct", "set "))


def test_a_fresh_grant_needs_nothing() -> None:
    assert repair(replace(GRANT, state=GrantState.FRESH)) is None
    assert repair(replace(GRANT, state=GrantState.FRESH, reason="unreachable:dns")) is None


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        (GrantState.EXPIRED, "unreachable:dns", ["token_endpoint", "name server", THEN]),
        (GrantState.EXPIRED, "unreachable:tls_certificate_untrusted", ["ca_bundle"]),
        (GrantState.EXPIRED, "unreachable:tls_to_plain_port", ["https", "plain HTTP"]),
        (GrantState.EXPIRED, "outcome_unknown:plain_to_tls_port", ["write https"]),
        (GrantState.EXPIRED, "unreachable:no_descriptors", ["LimitNOFILE"]),
        (GrantState.DEGRADED, "server_busy:http_429", [THEN]),
        (GrantState.DEGRADED, "outcome_unknown:timeout", [THEN, "refresher login acme"]),
        (GrantState.DEGRADED, "unexplained:http_404", ["token_endpoint", "7 times", THEN]),
        (GrantState.DEGRADED, "unexplained:http_400", ["client_authentication", "placement"]),
        (GrantState.DEGRADED, "request_rejected:invalid_request", ["send_redirect_uri_on_refresh"]),
        (
            GrantState.DEGRADED,
            "request_rejected:unrecognized_error",
            ["unknown", "_codes"],
        ),
        (GrantState.DEGRADED, "misconfigured:redirected:/oauth2/token/", ["/oauth2/token/"]),
        (GrantState.DEGRADED, "misconfigured:invalid_scope", ["scope", "SIGHUP"]),
        (GrantState.DEGRADED, "misconfigured:bad_redirect_uri", ["register", "SIGHUP"]),
        (
            GrantState.DEGRADED,
            "client_rejected:invalid_client",
            ["client_secret", "client_authentication", "encode_basic", "placement", "SIGHUP"],
        ),
        (
            GrantState.DEGRADED,
            "proof_demanded:invalid_grant",
            ["DPoP", "bearer", "is lost", THEN],
        ),
        (GrantState.DEGRADED, "not_authorized:unauthorized_client", ["this account", THEN]),
        (GrantState.DEGRADED, "refused:invalid_grant", ["refresher login acme", THEN]),
        (GrantState.PENDING, "refused:dpop", ["DPoP", "refresher login acme", "bound", THEN]),
        (GrantState.EXPIRED, "too_early:x", ["refresh_window"]),
        (GrantState.FRESH, "no_refresh_token", ["offline_access", "access_type", "consent"]),
        (GrantState.REAUTHORIZATION_REQUIRED, "no_refresh_token", ["offline_access"]),
        (GrantState.FRESH, "scope_narrowed:write", ["write", "refresher login acme", "consent"]),
        (GrantState.PAUSED, "outcome_unknown:timeout", ["refresher resume acme"]),
        (GrantState.PAUSED, "paused_here", ["refresher resume acme", "until 2027-01-15T08:00:00Z"]),
        (GrantState.PAUSED, "exported_here", ["refresher remove acme", "refresher resume acme"]),
        (GrantState.PAUSED, "unreadable", ["old key"]),
    ],
)
def test_a_repair_names_what_to_touch(state: GrantState, reason: str, words: list[str]) -> None:
    due_at = None if state is GrantState.REAUTHORIZATION_REQUIRED else NOW
    told = repair(replace(GRANT, state=state, reason=reason, due_at=due_at))
    assert told is not None
    assert [word for word in words if word not in told] == []


def test_an_open_exchange_is_named_beside_refusals_without_a_word() -> None:
    grant = replace(GRANT, state=GrantState.EXPIRED, reason="unexplained:http_401")
    assert "may be spent" not in (repair(grant) or "")
    assert "may be spent" in (repair(replace(grant, intent=OPEN)) or "")


def test_a_lost_grant_has_a_way_back_and_a_seed_another_client() -> None:
    lost = replace(
        GRANT, state=GrantState.REAUTHORIZATION_REQUIRED, reason="revoked:x", due_at=None
    )
    assert "refresher refresh --lost acme" in (repair(lost) or "")
    seed = repair(replace(lost, served_at=None)) or ""
    assert "another client than crm" in seed
    assert "--lost" not in seed
    assert THEN in (repair(replace(lost, due_at=NOW)) or ""), "it is being asked for"


def test_a_reason_fits_its_column() -> None:
    assert len(worded(Reason.MISCONFIGURED, "x" * 500)) == LONGEST
    assert worded(Reason.REVOKED, None) == worded(Reason.REVOKED, "") == "revoked"
