"""Everything wrong is reported at once, with its place and the way to mend it."""

import pytest

from tests.settings.conftest import CLIENT, Bench

GRANT = '[grants.shop]\nclient = "acme"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            '[redis]\nulr = "x"', "redis.ulr is no known key; did you mean url?", id="key"
        ),
        pytest.param("[grant.x]", "grant is no known key; did you mean grants?", id="section"),
        pytest.param(
            CLIENT + 'scopes = ["a"]',
            "clients.acme.scopes is no known key; did you mean scope?",
            id="key of a client",
        ),
        pytest.param('redis = "x"', "redis must be a table", id="not a table"),
        pytest.param(
            '[daemon]\nworkers = "many"', "daemon.workers must be a whole number", id="not a number"
        ),
        pytest.param(
            "[daemon]\nworkers = 0",
            "daemon.workers must be greater than or equal to 1",
            id="out of range",
        ),
        pytest.param(
            '[daemon]\nshutdown_deadline = "soon"',
            "daemon.shutdown_deadline is not a duration",
            id="duration",
        ),
        pytest.param(
            '[log]\nlevel = "loud"', "log.level must be 'debug', 'info', 'warning'", id="choice"
        ),
        pytest.param('[vault]\npath = ""', "vault.path must not be empty", id="empty"),
        pytest.param(
            '[redis]\nprefix = "a b"', "redis.prefix has characters or a form", id="prefix"
        ),
        pytest.param(
            '[redis]\nurl = "http://localhost"', "redis.url is not a Redis URL", id="redis scheme"
        ),
        pytest.param('[redis]\nurl = "redis://"', "redis.url has no host", id="redis host"),
        pytest.param(
            '[redis]\nurl = "redis://h:x"', "redis.url is not a Redis URL", id="redis port"
        ),
        pytest.param('[redis]\nurl = "unix://"', "redis.url has no path", id="redis path"),
        pytest.param(
            '[redis]\nurl = "redis://h?timeout=1"', "redis.url has an option", id="redis option"
        ),
        pytest.param(
            '[http]\nlisten = "9464"', "http.listen has characters or a form", id="listen"
        ),
        pytest.param(
            f'[control]\nsocket = "/{"x" * 107}"',
            "longer than the 107 bytes",
            id="socket path",
        ),
        pytest.param('secrets_dir = "nowhere"', "which is not a directory", id="secrets directory"),
        pytest.param(
            CLIENT.replace("acme]", '"a b"]'),
            'clients."a b" is a name that is not allowed: use 1 to 128 of',
            id="client name",
        ),
        pytest.param(
            CLIENT + '[grants."ü"]\nclient = "acme"',
            'grants."ü" is a name that is not allowed',
            id="grant name",
        ),
        pytest.param(
            CLIENT + 'provider = "survila"',
            "clients.acme.provider is none of the",
            id="provider",
        ),
        pytest.param(
            '[clients.acme]\nprovider = "survilla"\nclient_id = "a"\nclient_secret = "b"',
            "clients.acme.base_url is missing: authorization_endpoint, token_endpoint, "
            "revocation_endpoint are paths",
            id="base_url",
        ),
        pytest.param(
            CLIENT.replace("https://auth.acme.example", ""),
            "clients.acme.base_url is missing: token_endpoint is a path",
            id="relative endpoint",
        ),
        pytest.param(
            CLIENT + 'base_url = "https://a.example/?x=y"',
            "clients.acme.base_url has a query",
            id="base_url with a query",
        ),
        pytest.param(
            CLIENT.replace("token_endpoint", "authorization_endpoint"),
            "clients.acme.token_endpoint is missing: set it, or the issuer",
            id="token endpoint",
        ),
        pytest.param(
            CLIENT.replace("https:", "http:"),
            "clients.acme.token_endpoint is http://: secrets would travel in the clear",
            id="plain http",
        ),
        pytest.param(
            CLIENT.replace("https:", "ftp:"),
            "clients.acme.token_endpoint is not a URL",
            id="endpoint scheme",
        ),
        pytest.param(
            CLIENT.replace("//auth", "//user:word@auth"),
            "clients.acme.token_endpoint has a user or password",
            id="endpoint user",
        ),
        pytest.param(
            CLIENT.replace("/token", "/token#"),
            "clients.acme.token_endpoint has a fragment",
            id="endpoint fragment",
        ),
        pytest.param(
            CLIENT.replace("client_id", "description"),
            "clients.acme.client_id is missing",
            id="client id",
        ),
        pytest.param(
            CLIENT.replace("client_secret", "description"),
            'clients.acme.client_secret is missing: set it, or client_authentication = "none"',
            id="client secret",
        ),
        pytest.param(
            CLIENT + 'rotation = "grace"',
            "clients.acme.rotation is not a rotation profile",
            id="rotation",
        ),
        pytest.param(
            CLIENT + 'redirect_uris = ["/callback"]',
            "clients.acme.redirect_uris[0] is not an absolute URI",
            id="redirect URI",
        ),
        pytest.param(
            CLIENT + 'redirect_uris = ["https://a.example/", "https://a.example/#x"]',
            "clients.acme.redirect_uris[1] has a fragment",
            id="redirect URI fragment",
        ),
        pytest.param(
            CLIENT + 'redirect_uris = ["https:///x"]',
            "clients.acme.redirect_uris[0] has no host",
            id="redirect URI host",
        ),
        pytest.param(
            CLIENT + 'scope = ["read write"]',
            "clients.acme.scope has a value with a space",
            id="scope",
        ),
        pytest.param(
            CLIENT + 'proxy = "socks5://a:1"', "clients.acme.proxy is not a proxy", id="proxy"
        ),
        pytest.param(
            CLIENT + 'ca_bundle = "missing.pem"', "missing.pem, which cannot be read", id="bundle"
        ),
        pytest.param(
            CLIENT + 'ca_bundle = "refresher.toml"',
            "refresher.toml, which holds no certificates in PEM form",
            id="bundle that is none",
        ),
        pytest.param(CLIENT + "rate = 0", "clients.acme.rate must be greater than 0", id="rate"),
        pytest.param(
            CLIENT + "token_parameters = { a = 1 }",
            "clients.acme.token_parameters.a must be a string",
            id="parameter",
        ),
        pytest.param(
            CLIENT + GRANT.replace("acme", "acne"),
            "grants.shop.client names acne, known: acme; did you mean acme?",
            id="unknown client",
        ),
        pytest.param(GRANT, "grants.shop.client names acme, no client is known", id="no client"),
        pytest.param(
            "[grants.shop]", "grants.shop.client is missing: name one of clients", id="client of"
        ),
        pytest.param(
            CLIENT + GRANT + 'labels = { "A-b" = "c" }',
            "grants.shop.labels.A-b is no label: use a-z 0-9 _ only",
            id="label",
        ),
        pytest.param(
            CLIENT + GRANT + 'labels = { team = "a\\u001b[31m" }',
            "grants.shop.labels.team holds a control character: take it out",
            id="control character",
        ),
        pytest.param(
            CLIENT + GRANT + 'labels = { team = "a\\u202eb" }',
            "grants.shop.labels.team holds a control character: take it out",
            id="bidirectional override",
        ),
        pytest.param(
            CLIENT + GRANT + 'refresh_token = "a"\nstatic_token = "b"',
            "grants.shop.static_token and refresh_token are both set",
            id="both kinds",
        ),
        pytest.param(
            CLIENT + GRANT + "expires_at = 2030-01-01T00:00:00Z",
            "grants.shop.expires_at belongs to a static_token",
            id="end without a token",
        ),
        pytest.param(
            '[grants.shop]\nstatic_token = "a"\nexpires_at = 2030-01-01T00:00:00',
            "grants.shop.expires_at is not an instant",
            id="end without an offset",
        ),
    ],
)
def test_a_mistake_is_named_with_its_remedy(bench: Bench, text: str, expected: str) -> None:
    (problem,) = bench.problems(text)
    assert expected in problem


def test_toml_syntax_errors_name_the_line(bench: Bench) -> None:
    (problem,) = bench.problems("[redis]\nurl = x")
    assert "is not valid TOML" in problem
    assert "line 2, column 7" in problem


def test_an_unreadable_file_is_the_only_problem(bench: Bench) -> None:
    (problem,) = bench.problems("[redis", {"REFRESHER_CLIENTS__acme__CLIENT_SECRET": "x"})
    assert "is not valid TOML" in problem


def test_every_problem_comes_at_once(bench: Bench) -> None:
    text = (
        CLIENT
        + """
        rotation = "sometimes"
        concurrency = "few"
        redirect_uris = ["/cb"]
        [clients.other]
        client_id = "x"
        [grants.one]
        client = "nobody"
        labels = { a = 1, b = 2 }
        [nonsense]
        """
    )
    found = " ".join(bench.problems(text, {"REFRESHER_REDIS__PREFX": "x"}))
    for key in (
        "clients.acme.rotation",
        "clients.acme.concurrency",
        "clients.acme.redirect_uris[0]",
        "clients.other.token_endpoint",
        "clients.other.client_secret",
        "grants.one.client",
        "grants.one.labels.a",
        "grants.one.labels.b",
        "redis.prefx",
        "nonsense",
    ):
        assert f"{key} " in found


def test_a_broken_client_is_still_known(bench: Bench) -> None:
    assert bench.problems('[clients]\nacme = "x"\n' + GRANT) == [
        "clients.acme must be a table",
    ]


def test_a_doubtful_client_needs_no_secret_yet(bench: Bench) -> None:
    text = CLIENT.replace("client_secret = ", "client_authentication = ")
    (problem,) = bench.problems(text)
    assert "clients.acme.client_authentication must be 'client_secret_basic'" in problem


def test_one_refresh_token_has_one_grant(bench: Bench) -> None:
    second = GRANT.replace("shop", "copy") + 'refresh_token = "canary"'
    (problem,) = bench.problems(f'{CLIENT}{GRANT}refresh_token = "canary"\n{second}')
    assert problem.startswith("grants.copy.refresh_token is the one of grant shop")
    assert "canary" not in problem


def test_two_clients_may_have_equal_refresh_tokens(bench: Bench) -> None:
    text = CLIENT + CLIENT.replace("acme]", "other]") + GRANT + 'refresh_token = "same"\n'
    text += '[grants.two]\nclient = "other"\nrefresh_token = "same"'
    assert len(bench.load(text).settings.seeds) == 2


@pytest.mark.parametrize("host", ["localhost", "127.0.0.9", "[::1]", "auth.localhost"])
def test_plain_http_is_accepted_on_loopback(bench: Bench, host: str) -> None:
    text = CLIENT.replace("https://auth.acme.example", f"http://{host}:8080")
    assert bench.load(text).settings.clients["acme"].endpoints.token == f"http://{host}:8080/token"


def test_plain_http_can_be_allowed_elsewhere(bench: Bench) -> None:
    text = CLIENT.replace("https:", "http:") + "allow_plain_http = true"
    assert bench.load(text).settings.clients["acme"].endpoints.token.startswith("http://auth")


@pytest.mark.parametrize(
    ("proxy", "is_told"),
    [
        ("http://me:canary@proxy.example:3128", True),
        ("http://me:canary@10.0.0.7:3128", True),
        ("https://me:canary@proxy.example:3128", False),
        ("http://me:canary@127.0.0.1:3128", False),
        ("http://proxy.example:3128", False),
    ],
)
def test_a_proxys_password_in_the_clear_is_told(bench: Bench, proxy: str, *, is_told: bool) -> None:
    warnings = bench.load(f'{CLIENT}proxy = "{proxy}"').warnings
    told = [line for line in warnings if "clients.acme.proxy" in line]
    assert ["in the clear" in line for line in told] == [True] * is_told
    assert "canary" not in "".join(warnings)
