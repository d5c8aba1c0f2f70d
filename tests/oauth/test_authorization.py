import re
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from refresher.domain.logins import AwaitedAnswer
from refresher.domain.secret import Secret
from refresher.errors import AuthorizationFailed
from refresher.oauth.authorization import (
    KNOWN_ERRORS,
    AuthorizationRequest,
    begin,
    challenge,
    is_loopback,
    is_registered,
    read_callback,
)
from tests.oauth.world import make_client

REDIRECT = "http://127.0.0.1:8400/cb"
AWAITED = AwaitedAnswer(
    state=Secret("ST"),
    redirect_uri=REDIRECT,
    code_verifier=None,
)


def begun(**client: Any) -> tuple[AuthorizationRequest, dict[str, str]]:
    parts = {"authorization_endpoint": "https://as.example/auth", **client}
    request = begin(make_client(**parts), redirect_uri=REDIRECT, scope=("read", "write"))
    query = parse_qs(urlsplit(request.url).query, keep_blank_values=True)
    return request, {name: value for name, [value] in query.items()}


def refusal(pasted: str, awaited: AwaitedAnswer = AWAITED) -> str:
    with pytest.raises(AuthorizationFailed) as caught:
        read_callback(awaited, pasted)
    return str(caught.value)


def test_the_challenge_matches_rfc_7636() -> None:
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

    assert challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_an_authorization_request_says_everything() -> None:
    request, query = begun()

    assert request.awaited.code_verifier is not None
    assert query == {
        "response_type": "code",
        "client_id": "id",
        "redirect_uri": REDIRECT,
        "scope": "read write",
        "state": request.awaited.state.reveal(),
        "code_challenge": challenge(request.awaited.code_verifier.reveal()),
        "code_challenge_method": "S256",
    }
    assert request.awaited.redirect_uri == REDIRECT
    assert re.fullmatch(r"[A-Za-z0-9_-]{43,128}", request.awaited.code_verifier.reveal())
    assert request.awaited.code_verifier.reveal() not in request.url
    assert "scope=read%20write" in request.url


def test_no_two_logins_share_anything() -> None:
    (one, _), (other, _) = begun(), begun()

    assert one.awaited.state != other.awaited.state
    assert one.awaited.code_verifier != other.awaited.code_verifier


def test_a_client_may_go_without_pkce() -> None:
    request, query = begun(pkce=False)

    assert request.awaited.code_verifier is None
    assert "code_challenge" not in query


def test_a_provider_may_want_other_names() -> None:
    _, query = begun(
        redirect_uri_parameter="redirect_url",
        scope_separator=",",
        authorization_parameters={"access_type": "offline", "state": "forged"},
        authorization_endpoint="https://as.example/auth?tenant=t",
    )

    assert query["redirect_url"] == REDIRECT
    assert query["scope"] == "read,write"
    assert query["access_type"] == "offline"
    assert query["state"] != "forged"
    assert query["tenant"] == "t"


def test_a_client_without_endpoint_cannot_login() -> None:
    with pytest.raises(AuthorizationFailed, match="app has no authorization_endpoint"):
        begin(make_client(), redirect_uri=REDIRECT, scope=())


@pytest.mark.parametrize(
    ("pasted", "code"),
    [
        (f"{REDIRECT}?code=C&state=ST", "C"),
        (f"  {REDIRECT}/?state=ST&code=C#_=_ \n", "C"),
        (f"{REDIRECT}?code=4%2F0A%2B&state=ST&iss=https://as.example", "4/0A+"),
        ("code=C&state=ST&iss=https://as.example", "C"),
        ("?code=C&state=ST", "C"),
        ("127.0.0.1:8400/cb?code=C&state=ST", "C"),
        ("HTTP://127.0.0.1:8400/cb?code=C&state=ST", "C"),
        ("C", "C"),
        ("4%2F0A", "4/0A"),
        ("4/0A", "4/0A"),
        ("bGV0bWVpbg==", "bGV0bWVpbg=="),
    ],
)
def test_a_code_is_found_in_what_is_pasted(pasted: str, code: str) -> None:
    assert read_callback(AWAITED, pasted).code.reveal() == code


@pytest.mark.parametrize(
    ("pasted", "says"),
    [
        (f"{REDIRECT}?error=access_denied&state=ST", "refused the access (access_denied)"),
        (f"{REDIRECT}?error=access_denied", "the state is not the one"),
        ("error=access_denied", "the state is not the one"),
        (f"{REDIRECT}?error=access_denied&state=other", "the state is not the one"),
        (f"{REDIRECT}?code=C&state=ST&state=ST", "the state is not the one"),
        (f"{REDIRECT}?code=C&state=other&state=ST", "the state is not the one"),
        (f"{REDIRECT}?code=C&state=", "the state is not the one"),
        (f"{REDIRECT}?code=C&code=D&state=ST", "more than one code"),
        (f"{REDIRECT}?error=invalid_scope&state=ST", "check `scope`"),
        (f"{REDIRECT}?error=canary&state=ST", "with an error of its own"),
        (f"{REDIRECT}?code=C&state=other", "the state is not the one"),
        (f"{REDIRECT}?code=C", "the state is not the one"),
        ("code=C&state=\ud800", "the state is not the one"),
        (f"{REDIRECT}?state=ST", "carries no code"),
        (f"{REDIRECT}?code=&state=ST", "carries no code"),
        (f"https://as.example/auth?redirect_uri={quote(REDIRECT)}&state=ST", "does not begin"),
        ("http://127.0.0.1:8401/cb?code=C&state=ST", "does not begin"),
        ("http://127.0.0.1:8400/other?code=C&state=ST", "does not begin"),
        ("http://127.0.0.1:x/cb?code=C&state=ST", "is not a URL"),
        ("http://[::1?code=C", "is not a URL"),
        ("", "neither"),
        ("two words", "neither"),
        ("a\x1b[0m", "neither"),
    ],
)  # fmt: skip
def test_each_failed_login_says_why(pasted: str, says: str) -> None:
    message = refusal(pasted)

    assert says in message
    assert "canary" not in message


HERE, THERE = "https://as.example", "https://other.example"


@pytest.mark.parametrize(
    ("issuer", "query", "names_issuer"),
    [
        (HERE, f"code=C&state=ST&iss={HERE}", True),
        (HERE, f"code=C&state=ST&iss={quote(HERE, safe='')}", True),
        (HERE, "code=C&state=ST", False),
        (HERE, "C", False),
        (None, f"code=C&state=ST&iss={HERE}", True),
        (None, "code=C&state=ST", False),
    ],
)
def test_the_server_that_was_asked_may_name_itself(
    issuer: str | None, query: str, *, names_issuer: bool
) -> None:
    awaited = replace(AWAITED, issuer=issuer, other_issuers=(THERE,))
    callback = read_callback(awaited, query)
    assert (callback.code.reveal(), callback.names_issuer) == ("C", names_issuer)


@pytest.mark.parametrize(
    ("issuer", "iss"),
    [
        (HERE, f"iss={THERE}"),
        (HERE, f"iss={HERE}/"),
        (HERE, f"iss={HERE.upper()}"),
        (HERE, f"iss={HERE}&iss={THERE}"),
        (HERE, f"iss={THERE}&iss={HERE}"),
        (None, f"iss={THERE}"),
        (None, f"iss={HERE}&iss={THERE}"),
    ],
)
@pytest.mark.parametrize("answer", ["code=C", "error=access_denied"])
def test_an_answer_of_another_server_is_refused(issuer: str | None, iss: str, answer: str) -> None:
    awaited = replace(AWAITED, issuer=issuer, other_issuers=(THERE,))
    assert "issuer" in refusal(f"{REDIRECT}?{answer}&state=ST&{iss}", awaited)
    assert "the state is not" in refusal(f"{REDIRECT}?{answer}&state=other&{iss}", awaited)


@pytest.mark.parametrize(
    ("uri", "registered", "is_one"),
    [
        ("http://127.0.0.1:8400/cb", "http://127.0.0.1:8400/cb", True),
        ("http://127.0.0.1:8401/cb", "http://127.0.0.1:8400/cb", False),
        ("http://127.0.0.1:8401/cb", "http://127.0.0.1/cb", True),
        ("http://127.0.0.1:8401/cb", "http://127.0.0.1:0/cb", True),
        ("http://[::1]:8401/cb", "http://[::1]/cb", True),
        ("http://127.0.0.1:8401/cb/other", "http://127.0.0.1/cb", False),
        ("http://localhost:8401/cb", "http://127.0.0.1/cb", False),
        ("http://evil.example:8401/cb", "http://127.0.0.1/cb", False),
        ("https://app.example:8401/cb", "https://app.example/cb", False),
        ("My_RuName-x", "My_RuName-x", True),
    ],
)
def test_only_a_registered_redirect_uri_is_asked_for(
    uri: str, registered: str, *, is_one: bool
) -> None:
    assert is_registered(uri, ["https://first.example/", registered]) is is_one


def test_every_failure_reads_differently() -> None:
    messages = {refusal(f"?error={code}&state=ST") for code in KNOWN_ERRORS}

    assert len(messages) == len(KNOWN_ERRORS)


def test_a_redirect_name_is_compared_with_nothing() -> None:
    awaited = AwaitedAnswer(
        state=Secret("ST"),
        redirect_uri="My_RuName-x",
        code_verifier=None,
    )

    assert read_callback(awaited, "https://shop.example/ok?code=C&state=ST").code.reveal() == "C"


def test_a_custom_scheme_redirects_too() -> None:
    awaited = AwaitedAnswer(
        state=Secret("ST"),
        redirect_uri="com.example.app:/cb",
        code_verifier=None,
    )

    assert read_callback(awaited, "com.example.app:/cb?code=C&state=ST").code.reveal() == "C"


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1/", "http://127.8.9.1:80/cb", "http://[::1]:1/cb", "http://localhost"]
)
def test_loopback_redirect_uris_are_recognized(uri: str) -> None:
    assert is_loopback(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "https://127.0.0.1/",
        "http://example.org/",
        "http://localhost.example.org/",
        "http://10.0.0.1/",
        "http:///cb",
        "http://[::1",
        "urn:ietf:wg:oauth:2.0:oob",
        "My_RuName-x",
        "",
    ],
)
def test_other_redirect_uris_are_not_loopback(uri: str) -> None:
    assert not is_loopback(uri)


def test_an_authorization_request_shows_no_secret() -> None:
    request, _ = begun()

    assert request.awaited.code_verifier is not None
    for secret in (request.awaited.code_verifier, request.awaited.state):
        assert secret.reveal() not in repr(request)
    assert challenge(request.awaited.code_verifier.reveal()) not in repr(request)
