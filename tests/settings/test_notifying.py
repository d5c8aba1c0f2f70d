"""[[notify]]: whom the settings let be told, and what is wrong with it."""

import pytest

from refresher.domain.notifications import Kind
from refresher.settings import load
from refresher.settings.secret_places import Needed
from tests.settings.conftest import Bench

KEY = "whsec_" + 8 * "YWFh"
HOOK = f'[[notify]]\nurl = "https://alerts.example/x"\nsecret = "{KEY}"\n'
WORKS = '[[notify]]\ncommand = ["page", "me"]\n'


def test_a_webhook_and_a_command(bench: Bench) -> None:
    bench.write("key", KEY)
    hook = HOOK.replace(f'"{KEY}"', '{ file = "key" }')
    environment = {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x"}
    loaded = bench.load(hook + WORKS + 'events = ["grant.lost", "grant.ending"]', environment)
    first, second = loaded.settings.targets
    assert (first.setting, first.command, first.kinds) == ("notify[0]", (), frozenset(Kind))
    assert first.url is not None
    assert first.key is not None
    assert (first.url.reveal(), first.key.reveal()) == ("https://alerts.example/x", KEY)
    assert (second.command, second.folder) == (("page", "me"), bench.folder)
    assert second.environment == {"PATH": "/bin"}
    assert second.kinds == {Kind.GRANT_LOST, Kind.GRANT_ENDING}
    summary = loaded.summary()
    assert {"notify[0]: a webhook", "notify[1]: a command"} <= set(summary)
    assert not any("alerts.example" in line for line in summary)


def test_a_url_may_be_a_secret(bench: Bench) -> None:
    bench.write("url", "https://alerts.example/T00/B00\n")
    text = HOOK.replace('"https://alerts.example/x"', '{ file = "url" }')
    [target] = bench.load(text).settings.targets
    assert target.url is not None
    assert target.url.reveal() == "https://alerts.example/T00/B00"
    assert bench.load(text).settings.rereadable == ()
    assert load(bench.file, environment={}, needed=Needed.NONE).settings.targets[0].url is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_http_to_this_machine_is_good(bench: Bench, host: str) -> None:
    assert bench.load(HOOK.replace("https://alerts.example", f"http://{host}:80")).warnings == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[notify]]\n", "notify[0] takes a url or a command, and not both"),
        (HOOK + 'command = ["x"]', "notify[0] takes a url or a command, and not both"),
        (HOOK.replace("https", "http"), "notify[0].url is http:// to another host: whoever"),
        (HOOK.replace("https", "ftp"), "notify[0].url is not a URL: write https://HOST/PATH"),
        (HOOK.replace("alerts", "me:x@alerts"), "notify[0].url has a user or password"),
        (HOOK.replace(f'secret = "{KEY}"', ""), "notify[0].secret is missing: without it"),
        (HOOK.replace("whsec_", ""), "notify[0].secret does not begin with whsec_: make one"),
        (HOOK.replace(KEY, "whsec_YWFh"), "notify[0].secret has 3 bytes behind whsec_"),
        (HOOK.replace(KEY, "whsec_" + "YWFh" * 22), "notify[0].secret has 66 bytes behind whsec_"),
        (HOOK.replace(KEY, "whsec_???"), "notify[0].secret has something else than base64"),
        (WORKS + "[[notify]]\nurls = 1", "notify[1].urls is no known key; did you mean url?"),
        (WORKS + 'events = ["grant.gone"]', "notify[0].events must be 'grant.lost', 'grant.rec"),
        (WORKS.replace('["page", "me"]', "[]"), "notify[0].command has a command that is not"),
        ('[notify]\ncommand = ["x"]', "notify must be a list of tables: write it in two pairs"),
        ("notify = [1]", "notify must be a table"),
    ],
)
def test_what_is_wrong_is_named(bench: Bench, text: str, problem: str) -> None:
    found = bench.problems(text)
    assert any(line.startswith(problem) for line in found), found
    assert not any(secret in line for line in found for secret in ("YWFh", "alerts.example"))


def test_every_mistake_is_told_at_once(bench: Bench) -> None:
    text = WORKS + 'events = ["x"]\n' + HOOK.replace("https", "http") + 'sekret = "x"'
    assert [line.partition(" ")[0] for line in bench.problems(text)] == [
        "notify[0].events",
        "notify[1].sekret",
        "notify[1].url",
    ]
