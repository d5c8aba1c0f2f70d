"""What the settings say of a grant that renews itself, in the fewest words."""

import pytest

from refresher.domain.grants import GrantKind
from refresher.domain.quirks import ClientAuthentication
from refresher.domain.renewal import SubjectTokenType, Terms
from refresher.settings.loading import load
from refresher.settings.secret_places import Needed
from tests.settings.conftest import CLIENT, Bench
from tests.support.signing import key_pair, service_account

GRANT = f'{CLIENT}[grants.g]\nclient = "acme"\n'
OTHER = '[grants.user]\nclient = "acme"\n'
USER = "subject = 'user'\n"
STATIC = "[grants.s]\nstatic_token = 't'\n"
EXCHANGE = "grant_type = 'token_exchange'\n"
PUBLIC = """
[clients.acme]
token_endpoint = "https://auth.acme.example/token"
client_id = "refresher"
client_authentication = "none"
[grants.g]
client = "acme"
grant_type = "client_credentials"
"""
SIGNING = """
[clients.acme]
token_endpoint = "https://auth.acme.example/token"
client_id = "refresher"
client_private_key = { file = "key.pem" }
[grants.g]
client = "acme"
grant_type = "jwt_bearer"
"""
URN = "urn:ietf:params:oauth:grant-type:"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("refresh_token", GrantKind.REFRESHABLE),
        ("client_credentials", GrantKind.CLIENT),
        ("token_exchange", GrantKind.EXCHANGE),
        (f"{URN}token-exchange", GrantKind.EXCHANGE),
        ("jwt_bearer", GrantKind.ASSERTION),
        (f"{URN}jwt-bearer", GrantKind.ASSERTION),
    ],
)
def test_a_grant_says_what_renews_it(bench: Bench, name: str, kind: GrantKind) -> None:
    bench.write("key.pem", key_pair()[0])
    key = 'client_private_key = { file = "key.pem" }\n' if kind is GrantKind.ASSERTION else ""
    subject = 'subject = "user"\n' if kind is GrantKind.EXCHANGE else ""
    grants = f'[grants.g]\nclient = "acme"\ngrant_type = "{name}"\n{subject}{OTHER}'
    loaded = bench.load(f"{CLIENT}{key}{grants}")
    assert loaded.settings.seeds[0].kind is kind
    assert loaded.warnings == ()


def test_a_grant_says_what_it_asks_for(bench: Bench) -> None:
    text = (
        f'{GRANT}grant_type = "token_exchange"\nsubject = "user"\nsubject_token = "refresh_token"\n'
        f'audience = ["a", "b"]\nresource = "https://r.example"\n{OTHER}'
    )
    [seed, _] = bench.load(text).settings.seeds
    assert seed.terms == Terms(
        subject="user",
        subject_token=SubjectTokenType.REFRESH_TOKEN,
        audience=("a", "b"),
        resource=("https://r.example",),
    )


def test_its_scope_is_the_clients_and_never_one_for_a_refresh_token(bench: Bench) -> None:
    text = (
        '[clients.x]\nprovider = "microsoft"\ntenant = "common"\nclient_id = "id"\n'
        'client_secret = "s"\nscope = "https://graph.microsoft.com/.default"\n'
        '[grants.g]\nclient = "x"\ngrant_type = "client_credentials"\n'
    )
    [seed] = bench.load(text).settings.seeds
    assert seed.scope == ("https://graph.microsoft.com/.default",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{GRANT}grant_type = "password"\n', "grants.g.grant_type is no grant type"),
        (f'{GRANT}audience = "a"\n', "grants.g.audience belongs to a grant_type of client_cred"),
        (
            f'{GRANT}grant_type = "client_credentials"\nsubject = "s"\n',
            "grants.g.subject belongs to a grant_type of jwt_bearer or token_exchange",
        ),
        (
            f'{GRANT}grant_type = "client_credentials"\nrefresh_token = "rt"\n',
            "grants.g.refresh_token is not needed",
        ),
        (
            f'{GRANT}grant_type = "token_exchange"\n',
            "grants.g.subject is missing: name the grant whose token is exchanged",
        ),
        (f'{GRANT}grant_type = "token_exchange"\nsubject = "g"\n', "is the grant itself"),
        (
            f"{GRANT}{EXCHANGE}subject = 'h'\n[grants.h]\nclient = 'acme'\n{EXCHANGE}{USER}{OTHER}",
            "grants.g.subject is h, which is exchanged itself",
        ),
        (
            f"{GRANT}{EXCHANGE}subject = 's'\nsubject_token = 'refresh_token'\n{STATIC}",
            "grants.g.subject_token is refresh_token, and s has none",
        ),
        (
            f'{GRANT}grant_type = "jwt_bearer"\n',
            "clients.acme.client_private_key is missing: set the private key",
        ),
        (
            PUBLIC,
            "grants.g.grant_type is client_credentials, and client acme proves itself with nothing",
        ),
        (
            SIGNING.replace("/token", "/apps/{subject}/token"),
            "grants.g.subject is missing: the token_endpoint of client acme has it",
        ),
    ],
)
def test_what_a_kind_lacks_or_has_no_use_for_is_told(bench: Bench, text: str, said: str) -> None:
    bench.write("key.pem", key_pair()[0])
    [problem] = bench.problems(text)
    assert said in problem


def test_a_subject_that_the_settings_do_not_have_may_be_imported(bench: Bench) -> None:
    [told] = bench.load(f'{GRANT}grant_type = "token_exchange"\nsubject = "usr"\n{OTHER}').warnings
    assert "grants.g.subject is usr, no grant of the settings" in told
    assert "did you mean user?" in told


def test_what_a_client_signs_proves_it_where_it_has_no_secret(bench: Bench) -> None:
    bench.write("key.pem", key_pair()[0])
    loaded = bench.load(SIGNING)
    client = loaded.settings.clients["acme"]
    assert client.quirks.client_authentication is ClientAuthentication.NONE
    assert loaded.warnings == ()


SERVICE = """
[clients.acme]
client_private_key = { file = "account.json" }
[grants.g]
client = "acme"
grant_type = "jwt_bearer"
"""


def test_the_file_of_a_service_account_says_who_the_client_is_and_where_to_ask(
    bench: Bench,
) -> None:
    bench.write("account.json", service_account("robot@p.example", "https://g.example/token"))
    client = bench.load(SERVICE).settings.clients["acme"]
    assert client.client_id == "robot@p.example"
    assert client.endpoints.token == "https://g.example/token"
    # A command that has no use for secrets makes the same client of what it may not read.
    assert "acme" in load(bench.file, environment={}, needed=Needed.NONE).settings.clients


def test_a_file_that_sends_secrets_in_the_clear_is_refused(bench: Bench) -> None:
    bench.write("account.json", service_account("robot@p.example", "http://g.example/token"))
    [problem] = bench.problems(SERVICE)
    assert "clients.acme.token_endpoint is http://" in problem
