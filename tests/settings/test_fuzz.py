"""No settings, however odd, bring anything but settings or a list of problems in words."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refresher.errors import SettingsError
from refresher.settings import load
from refresher.settings.describe import describe
from refresher.text import plain
from tests.settings.conftest import CLIENT, Bench

CANARY = "canary-5f1c"
KEYS = sorted(
    {
        entry.key.replace("NAME", "acme").replace("KEY", "x")
        for entry in describe()
        if entry.variable
    }
    | {"notify", "clients.acme", "grants.acme", "redis", "vault", "clients", "daemon.x", "nonsense"}
)

quick = settings(max_examples=60, deadline=None, database=None)

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(
        ["", " ", "\0", "x" * 300, "~\0", "~nobody/x", "90s", "9" * 400 + "d", "9" * 400, "²",
         "redis://h?db=x", "https://[::1", "https://h:99999/x", "grace(9)", "true", "none", "a b",
         "2030-01-31T12:00:00Z", "0001-01-01T00:00:00+23:59", "/proc/self/mem", "/dev/null/x"]
    ),
)  # fmt: skip
SECRETS = st.one_of(
    st.just(CANARY),
    st.sampled_from(["redis", "rediss", "http", "https", "ftp", "x"]).map(
        lambda scheme: f"{scheme}://user:{CANARY}@h:port/{CANARY}?{CANARY}={CANARY}#{CANARY}"
    ),
    st.sampled_from([f" {CANARY}", f"{CANARY}\n", f"{CANARY}s", f'"{CANARY}', f"{CANARY},\0"]),
)
SCALARS = st.one_of(st.booleans(), st.integers(-(10**400), 10**400), st.floats(), TEXTS, SECRETS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "a",
                    "file",
                    "env",
                    "credential",
                    "command",
                    "url",
                    "secret",
                    "\n\x1b[31m",
                    "ü",
                    "",
                ]
            ),
            inner,
            max_size=2,
        )
    ),
    max_leaves=5,
)
DOCUMENTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6)


def toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            return repr(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case _:
            return f"{{{', '.join(f'{toml(key)} = {toml(each)}' for key, each in value.items())}}}"


def written(document: Mapping[str, Any]) -> str:
    """DOCUMENT as TOML; keys above another's table are left out, as TOML forbids both."""
    lines = [
        f"{key} = {toml(value)}"
        for key, value in document.items()
        if not any(other.startswith(f"{key}.") for other in document)
    ]
    return "\n".join(lines)


@contextmanager
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        yield Bench(Path(folder))


def judged(text: str, environment: Mapping[str, str] | None = None) -> list[str]:
    """The problems of TEXT, each one line with a place; none of its secrets in any of them."""
    with bench() as place:
        place.file.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            loaded = load(place.file, environment=environment or {})
            problems, shown = [], f"{loaded!r} {loaded.summary()}"
        except SettingsError as error:
            problems, shown = error.problems, str(error)
            loaded = None
    credentials = (environment or {}).get("CREDENTIALS_DIRECTORY", "")
    places = (str(place.folder), "environment", "settings: ", "/", plain(credentials) + ":")
    assert CANARY not in shown
    assert loaded or problems
    for problem in problems:
        assert problem.isprintable(), "one line that a terminal can show"
        assert problem.startswith(places)
        assert ": " in problem
    return problems


@quick
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda each: each.decode("latin-1")))
def test_any_text_is_judged(text: str) -> None:
    judged(text)


@settings(quick, max_examples=120)
@given(DOCUMENTS, st.booleans())
def test_any_value_at_any_key_is_judged(document: dict[str, Any], with_client: bool) -> None:  # noqa: FBT001  drawn
    # Values that are shown on purpose: names and paths.
    named = ("client", "path", "file", "socket", "secrets_dir", "ca_bundle", "provider", "scope",
             "certificate", "certificate_key",
             "extras", "codes", "listen", "acme")  # fmt: skip
    shown = {key: value for key, value in document.items() if key.endswith(named)}
    quiet = {key: _without_canary(value) if key in shown else value
             for key, value in document.items()}  # fmt: skip
    text = written({key: _without_sources(value) for key, value in quiet.items()})
    is_mixed = with_client and not any(key.startswith("clients") for key in document)
    judged(text + (CLIENT if is_mixed else ""))


def _without_canary(value: Any) -> Any:
    return json.loads(json.dumps(value).replace(CANARY, "name"))


def _without_sources(value: Any) -> Any:
    """VALUE without commands to run and names that are quoted as places of secrets."""
    if isinstance(value, dict):
        return {key: "word" if key in {"command", "file", "env", "credential"} else each
                for key, each in value.items()}  # fmt: skip
    return value


VARIABLES = st.sampled_from(
    ["REFRESHER_" + key.replace(".", "__") for key in KEYS]
    + ["REFRESHER_REDIS__URL", "REFRESHER_CLIENTS__", "REFRESHER____", "REFRESHER_CLIENTS__a__b__c",
       "REFRESHER_redis__url", "REFRESHER_PORT", "REFRESHER_SECRETS_DIR", "CREDENTIALS_DIRECTORY"]
)  # fmt: skip


@quick
@given(st.dictionaries(VARIABLES, TEXTS | st.just("{}") | st.just("\udc80"), max_size=5))
def test_any_environment_is_judged(environment: dict[str, str]) -> None:
    judged("", environment)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = " + "[" * 5000, "is nested too deeply"),
        ("x = " + "9" * 5000, "holds a number"),
        ('secrets_dir = "a\\u0000b"', "its name holds a NUL"),
        (f'secrets_dir = "{"x" * 300}"', "cannot be read: File name too long"),
        (CLIENT + 'ca_bundle = "a\\u0000b"', "clients.acme.ca_bundle is "),
        (CLIENT + 'issuer = "A://["', "clients.acme.issuer "),
        (CLIENT + 'issuer = "https://h:99999"', "clients.acme.issuer "),
        ('[vault]\nkey_file = "~a\\u0000"\nx = 1', "vault.x is no known key"),
        ('[redis]\nurl = "redis://h?db=x"', "redis.url has a db that is not a number"),
        ('[redis]\nurl = "redis://h?ssl_foo=1"', "redis.url has an option other than db"),
        ('[redis]\nurl = "redis://h?ssl_keyfile=1"', "redis.url has ssl_keyfile, which needs"),
        ('[redis]\nurl = "redis://:a@h"\npassword = "b"', "redis.password stands in redis.url too"),
        (CLIENT + "survive_outage = " + "9" * 400, "clients.acme.survive_outage is not a duration"),
        (CLIENT + f'survive_outage = "{"9" * 400}"', "survive_outage is not a duration"),
        ("[grants.a]\nstatic_token = 'x'\nexpires_at = 1e12", "expires_at is not an instant"),
        ("[grants.a]\nstatic_token = 'x'\nexpires_at = " + "9" * 400, "is not an instant"),
        ('"a\\nb\\u001b[31m" = 1', '"a\\nb\\x1b[31m" is no known key'),
        (CLIENT.replace('"acme-secret"', '{ credential = "' + "x" * 300 + '" }'), "is the cred"),
        (CLIENT.replace('"acme-secret"', '{ command = ["a\\u0000"] }'), "a command with a NUL"),
        (CLIENT.replace('"acme-secret"', '{ file = "a\\u0000" }'), "its name holds a NUL"),
    ],
    ids=lambda value: value[:40] if value.isprintable() else "",
)  # fmt: skip
def test_what_once_broke_the_reader_is_a_problem(text: str, expected: str) -> None:
    assert expected in " ".join(judged(text))
