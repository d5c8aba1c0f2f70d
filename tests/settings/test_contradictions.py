"""Keys that are right by themselves and wrong beside each other."""

import pytest

from tests.settings.conftest import CLIENT, Bench

PUBLIC = CLIENT.replace('client_secret = "acme-secret"', 'client_authentication = "none"')
LOGIN = 'authorization_endpoint = "https://auth.acme.example/authorize"\n'
LOGIN += 'redirect_uris = ["http://127.0.0.1/cb"]\n'
SURVILLA = """
[clients.acme]
provider = "survilla"
base_url = "https://portal.example"
client_id = "a"
client_secret = "acme-secret"
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            CLIENT + 'client_authentication = "none"',
            'client_secret is set, and client_authentication = "none" sends none',
        ),
        (
            CLIENT + "send_redirect_uri_on_refresh = true",
            "send_redirect_uri_on_refresh needs the URI to send: set redirect_uris",
        ),
        (
            CLIENT + 'refresh_window = 60\nsurvive_outage = "10m"',
            "refresh_window cannot be kept: the server refreshes only 60 s before the end",
        ),
        (
            CLIENT + 'rejection_codes = ["gone", "busy"]\ntransient_codes = "busy"',
            "rejection_codes has busy, which transient_codes has as well",
        ),
        (
            CLIENT + 'rejection_descriptions = "Try Later"\ntransient_descriptions = "try later"',
            "rejection_descriptions has try later, which transient_descriptions has as well",
        ),
    ],
)
def test_what_can_never_work_is_a_problem(bench: Bench, text: str, expected: str) -> None:
    assert bench.problems(text)[0].startswith(f"clients.acme.{expected}")
    assert len(bench.problems(text)) == 1


@pytest.mark.parametrize(
    ("table", "name", "mend"),
    [
        ("token_parameters", "grant_type", "use grant_type of a grant"),
        ("token_parameters", "refresh_token", "use refresh_token of a grant"),
        ("token_parameters", "client_id", "use client_id, and client_authentication"),
        ("token_parameters", "client_secret", "use client_secret"),
        ("token_parameters", "Client_Secret", "use client_secret"),
        ("token_parameters", "code", "use refresher login"),
        ("token_parameters", "code_verifier", "use pkce"),
        ("token_parameters", "redirect_uri", "use redirect_uris, and send_redirect_uri_on"),
        ("token_parameters", "scope", "use scope, and send_scope_on_refresh"),
        ("token_parameters", "client_assertion", "sounds like a secret"),
        ("token_parameters", "password", "sounds like a secret"),
        ("token_parameters", "x-api-key-secret", "sounds like a secret"),
        ("token_parameters", "subject_token", "sounds like a secret"),
        ("authorization_parameters", "response_type", "use nothing: refresher knows code"),
        ("authorization_parameters", "client_id", "use client_id"),
        ("authorization_parameters", "client_secret", "use client_secret: a browser would"),
        ("authorization_parameters", "redirect_uri", "use redirect_uris"),
        ("authorization_parameters", "state", "use nothing: refresher draws it"),
        ("authorization_parameters", "code_challenge", "use pkce"),
        ("authorization_parameters", "code_challenge_method", "use pkce"),
        ("authorization_parameters", "scope", "use scope"),
        ("authorization_parameters", "api_key", "sounds like a secret"),
    ],
)
def test_a_parameter_of_the_daemon_or_a_secret_one_is_a_problem(
    bench: Bench, table: str, name: str, mend: str
) -> None:
    (problem,) = bench.problems(f'{CLIENT}{LOGIN}{table} = {{ "{name}" = "canary" }}')
    assert problem.startswith(f"clients.acme.{table}.{name} ")
    assert mend in problem
    assert "canary" not in problem


def test_the_renamed_redirect_uri_is_a_parameter_of_the_daemon(bench: Bench) -> None:
    text = CLIENT + LOGIN + 'redirect_uri_parameter = "redirect_url"\n'
    (problem,) = bench.problems(text + 'token_parameters = { redirect_url = "x" }')
    assert "token_parameters.redirect_url is filled in by the daemon" in problem


@pytest.mark.parametrize(
    "parameters",
    [
        'token_parameters = { audience = "x", resource = "y", client_assertion_type = "z" }',
        'token_parameters = { requested_token_use = "x", token_type_hint = "y" }',
        'authorization_parameters = { access_type = "offline", prompt = "consent" }',
        'authorization_parameters = { response_mode = "query", nonce = "x" }',
    ],
)
def test_other_parameters_are_fine(bench: Bench, parameters: str) -> None:
    assert bench.load(CLIENT + LOGIN + parameters).warnings == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            CLIENT + 'client_authentication = "client_secret_post"\nencode_basic = false',
            'encode_basic has no effect: client_authentication is "client_secret_post"',
        ),
        (PUBLIC + "encode_basic = true", "encode_basic has no effect"),
        (
            CLIENT + 'exchange_endpoint = "https://as.example/exchange"',
            "exchange_endpoint has no effect without an exchange_grant_type",
        ),
        (PUBLIC + LOGIN + "pkce = false", "pkce is off for a client without a secret"),
        (CLIENT + "pkce = false", "pkce has no effect: login needs an authorization_endpoint"),
        (
            CLIENT + 'authorization_parameters = { prompt = "consent" }',
            "authorization_parameters has no effect: login needs an authorization_endpoint",
        ),
        (
            CLIENT + 'redirect_uri_parameter = "redirect_url"',
            "redirect_uri_parameter has no effect without redirect_uris",
        ),
        (
            CLIENT + LOGIN + 'authorization_parameters = { response_mode = "form_post" }',
            "authorization_parameters.response_mode keeps the code out of the URL",
        ),
        (CLIENT + 'base_url = "https://a.example"', "base_url has no effect"),
        (CLIENT + "send_scope_on_refresh = true", "send_scope_on_refresh has no scope to send"),
        (
            CLIENT + "refresh_window = 600\ndefault_expires_in = 300",
            "refresh_window has no effect: it is no shorter than a life of 300 s",
        ),
        (
            CLIENT + "survive_outage = 200\ndefault_expires_in = 300",
            "survive_outage is more than half of a life of 300 s",
        ),
        (
            CLIENT + "refresh_token_idle = 3600\nrefresh_window = 60\ndefault_expires_in = 7200",
            "refresh_token_idle asks for a refresh every 1800 s, which refresh_window refuses",
        ),
        (
            CLIENT + 'rotation = "none"\non_unknown_outcome = "pause"',
            'on_unknown_outcome has no effect with rotation = "none"',
        ),
        (
            CLIENT + 'rotation = "until_used"\non_unknown_outcome = "defer"',
            'on_unknown_outcome has no effect with rotation = "until_used"',
        ),
        (
            CLIENT + 'rotation = "grace(20)"\nresponse_timeout = 21',
            'response_timeout is longer than the window of rotation = "grace(20)": no replay fits',
        ),
        (CLIENT + 'rotation = "grace(0)"', 'rotation has a window of 0 s: write "strict"'),
        (
            CLIENT + "response_timeout = 41",
            "response_timeout is longer than daemon.shutdown_deadline (40 s)",
        ),
        (CLIENT + 'transient_codes = "invalid_grant"', "transient_codes has invalid_grant"),
        (CLIENT + 'rejection_codes = "invalid_client"', "rejection_codes has invalid_client"),
        (
            CLIENT + 'rejection_descriptions = "token expired"\ntransient_descriptions = "expired"',
            'rejection_descriptions has "token expired", and transient_descriptions has "expired"',
        ),
        (CLIENT + 'extras = "expires_at"', "extras has expires_at, which is published anyway"),
        (CLIENT + 'extras = "refresh_token"', "extras has refresh_token: no refresh token is"),
        (
            CLIENT.replace("https", "http") + "allow_plain_http = true",
            "token_endpoint is http:// to another host",
        ),
        (
            CLIENT.replace("auth.acme.example", "169.254.169.254"),
            "token_endpoint is a link-local address",
        ),
        (
            CLIENT.replace("auth.acme.example", "[fe80::1]"),
            "token_endpoint is a link-local address",
        ),
        (
            CLIENT + LOGIN.replace("127.0.0.1", "app.example"),
            "redirect_uris[0] is http:// to another host: whoever stands between reads the code",
        ),
    ],
)
def test_what_has_no_effect_is_warned_of(bench: Bench, text: str, expected: str) -> None:
    (warning,) = bench.load(text).warnings
    assert warning.startswith(f"{bench.file}: clients.acme.{expected}")


@pytest.mark.parametrize(
    "text",
    [
        CLIENT + "encode_basic = false",
        PUBLIC + LOGIN,
        CLIENT + LOGIN + "pkce = false",
        CLIENT + LOGIN + 'redirect_uri_parameter = "u"\nsend_redirect_uri_on_refresh = true',
        CLIENT + 'send_scope_on_refresh = true\nscope = "a"',
        CLIENT + 'send_scope_on_refresh = true\n[grants.a]\nclient = "acme"\nscope = "a"',
        CLIENT + "refresh_window = 600\nsurvive_outage = 600\ndefault_expires_in = 1200",
        CLIENT + "refresh_token_idle = 3600\nrefresh_window = 600\ndefault_expires_in = 1200",
        CLIENT + 'rotation = "grace(30)"\non_unknown_outcome = "pause"\nresponse_timeout = 30',
        CLIENT + 'rotation = "strict"\non_unknown_outcome = "pause"\nresponse_timeout = 40',
        CLIENT + 'rotation = "unknown"\non_unknown_outcome = "defer"',
        CLIENT + 'rejection_codes = "a"\ntransient_codes = "b"',
        CLIENT + 'extras = ["instance_url", "id_token"]',
        SURVILLA,
    ],
)
def test_what_fits_is_not_warned_of(bench: Bench, text: str) -> None:
    assert bench.load(text).warnings == ()


def test_a_provider_is_read_against_the_client(bench: Bench) -> None:
    (problem,) = bench.problems(SURVILLA + 'client_authentication = "none"')
    assert problem.startswith("clients.acme.client_secret is set")
    first, second = bench.load(SURVILLA + "encode_basic = true\nsurvive_outage = 500").warnings
    assert 'client_authentication is "client_secret_post"' in first
    assert "survive_outage is more than half of a life of 900 s" in second


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        (("acme-secret", "other-secret"), "client_secret"),
        (('client_id = "refresher"', 'client_id = "refresher"\nrate = 2'), "rate"),
        (('client_id = "refresher"', 'client_id = "refresher"\nconcurrency = 2'), "concurrency"),
        (('client_id = "refresher"', 'client_id = "refresher"\nrotation = "none"'), "rotation"),
    ],
)
def test_one_registered_client_is_described_alike(
    bench: Bench, change: tuple[str, str], keys: str
) -> None:
    again = CLIENT.replace("acme]", "again]")
    assert bench.load(CLIENT + again).warnings == ()
    (warning,) = bench.load(CLIENT + again.replace(*change)).warnings
    assert "clients.again is the same client of the same server as acme" in warning
    assert f"with another {keys}: " in warning
    assert "secret-" not in warning
    other_server = again.replace(*change).replace("https://auth", "https://other")
    assert bench.load(CLIENT + other_server).warnings == ()


ELSEWHERE = CLIENT.replace("acme]", "other]").replace("https://auth.acme", "https://auth.other")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("http://127.0.0.1:8765/callback", "http://127.0.0.1:8765/callback"),
        ("http://127.0.0.1:8765/callback", "http://127.0.0.1:8766/callback"),
        ("http://127.0.0.1/callback", "http://127.0.0.1:8766/callback/"),
        ("http://localhost:1/cb", "http://LOCALHOST/cb?client=other"),
        ("http://[::1]:1/cb", "http://[::1]:2/cb"),
        ("https://app.example/cb", "https://app.example:443/cb"),
        ("com.example.app:/cb", "com.example.app:/cb"),
    ],
)
def test_two_servers_share_no_redirect_uri(bench: Bench, first: str, second: str) -> None:
    text = f'{CLIENT}redirect_uris = ["{first}"]\n{ELSEWHERE}'
    (problem,) = bench.problems(f'{text}redirect_uris = ["https://app.example/x", "{second}"]')
    assert problem.startswith("clients.other.redirect_uris[1] leads where one of acme leads")
    assert "such as one that ends in /callback/other" in problem


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("http://127.0.0.1:8765/callback/acme", "http://127.0.0.1:8765/callback/other"),
        ("http://127.0.0.1:8765/callback", "http://localhost:8765/callback"),
        ("https://app.example/cb", "https://app.example:8443/cb"),
        ("https://app.example/cb", "http://app.example/cb"),
    ],
)
def test_two_servers_may_have_neighbours(bench: Bench, first: str, second: str) -> None:
    text = f'{CLIENT}redirect_uris = ["{first}"]\n{ELSEWHERE}redirect_uris = ["{second}"]'
    bench.load(text)  # or it would raise


def test_clients_of_one_server_may_share_a_redirect_uri(bench: Bench) -> None:
    uri = 'redirect_uris = ["http://127.0.0.1/cb"]\n'
    bench.load(CLIENT + uri + CLIENT.replace("acme]", "again]") + uri)


def test_a_broken_redirect_uri_is_told_once(bench: Bench) -> None:
    uri = 'redirect_uris = ["http://[::1/cb"]\n'
    assert len(bench.problems(CLIENT + uri + ELSEWHERE + uri)) == 2


def test_a_stop_that_waits_too_short_is_told_once(bench: Bench) -> None:
    again = CLIENT.replace("acme]", "again]")
    (warning,) = bench.load(f"[daemon]\nshutdown_deadline = 10\n{CLIENT}{again}").warnings
    assert "daemon.shutdown_deadline is shorter than the 30 s an answer may take" in warning


def test_a_static_token_is_of_no_scope(bench: Bench) -> None:
    (problem,) = bench.problems('[grants.a]\nstatic_token = "x"\nscope = "a"')
    assert problem.startswith("grants.a.scope belongs to a login")


def test_two_users_of_redis_are_a_problem(bench: Bench) -> None:
    text = '[redis]\nurl = "redis://one@cache"\nusername = '
    (problem,) = bench.problems(f'{text}"two"')
    assert problem.startswith("redis.username is another in redis.url")
    assert bench.load(f'{text}"one"').warnings == ()
