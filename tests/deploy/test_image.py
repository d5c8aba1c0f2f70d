"""What the container image promises."""

import json
import re
from fnmatch import fnmatch

import pytest

from refresher.ops.health import CHECK_WITHIN
from tests.deploy.files import CHECKOUT, instructions_of, unit_of

TEXT = (CHECKOUT / "Dockerfile").read_text()
INSTRUCTIONS = instructions_of(CHECKOUT / "Dockerfile")
COMPOSE = (CHECKOUT / "deploy" / "compose.yaml").read_text()


def runtime(name: str) -> list[str]:
    """The arguments of every NAME in the last stage."""
    last = max(i for i, (instruction, _) in enumerate(INSTRUCTIONS) if instruction == "FROM")
    return [rest for instruction, rest in INSTRUCTIONS[last:] if instruction == name]


def copied_from_the_checkout() -> list[str]:
    copies = [rest.split() for name, rest in INSTRUCTIONS if name == "COPY"]
    return [source for words in copies if "--from" not in words[0] for source in words[:-1]]


def test_signals_reach_the_daemon_itself() -> None:
    assert json.loads(runtime("ENTRYPOINT")[0]) == ["refresher"]
    assert json.loads(runtime("CMD")[0]) == ["run"]
    assert runtime("STOPSIGNAL") == ["SIGTERM"]


def test_it_runs_as_a_numbered_user() -> None:
    (user,) = runtime("USER")
    uid, gid = user.split(":")
    assert uid == gid == "10001"
    assert any(f"echo refresher:x:{uid}:{gid}:" in rest for rest in runtime("RUN"))


def test_the_vault_is_on_a_volume() -> None:
    assert runtime("VOLUME") == ["/var/lib/refresher"]


def test_the_health_check_outlasts_its_command() -> None:
    (check,) = runtime("HEALTHCHECK")
    options, _, command = check.partition("CMD ")
    assert json.loads(command) == ["refresher", "health"]
    timeout = re.search(r"--timeout=(\d+)s", options)
    assert timeout is not None
    assert float(timeout[1]) > CHECK_WITHIN


def test_every_copied_source_exists_and_is_let_in() -> None:
    sources = copied_from_the_checkout()
    let_in = (CHECKOUT / ".dockerignore").read_text().splitlines()
    assert sources
    for source in sources:
        assert (CHECKOUT / source).exists()
        assert f"!{source}" in let_in


def test_whatever_is_not_needed_stays_out() -> None:
    lines = (CHECKOUT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    assert let_in == set(copied_from_the_checkout())
    assert any(fnmatch("refresher/ops/__pycache__", rule) for rule in rules[1:])


def test_stages_are_named_at_the_top() -> None:
    names = [rest.split(" AS ")[1] for name, rest in INSTRUCTIONS if name == "FROM"]
    header = TEXT.partition("\n\n")[0]
    assert [name for name in names if re.search(rf"^#   {name} ", header, re.MULTILINE)] == names
    assert all(rest.startswith("python:3.13-slim ") for n, rest in INSTRUCTIONS if n == "FROM")


@pytest.mark.parametrize("text", [TEXT, COMPOSE], ids=["Dockerfile", "compose.yaml"])
def test_no_address_of_an_index_is_named(text: str) -> None:
    assert re.findall(r"https?://|--(?:extra-)?index-url|PIP_INDEX", text) == []


def test_compose_waits_as_long_as_systemd() -> None:
    (seconds,) = re.findall(r"stop_grace_period: (\d+)s", COMPOSE)
    assert seconds == unit_of(CHECKOUT / "deploy" / "refresher.service")["TimeoutStopSec"][0]


def test_compose_gives_no_writable_root_or_privileges() -> None:
    services = COMPOSE.count("    image: ")
    for promise in ("read_only: true", "cap_drop: [ALL]", '"no-new-privileges:true"'):
        assert COMPOSE.count(promise) == services == 3


def test_what_compose_mounts_is_never_committed() -> None:
    ignored = (CHECKOUT / ".gitignore").read_text().splitlines()
    mounted = re.findall(r"^ +(?:- |file: )\./([^:\s]+)", COMPOSE, re.MULTILINE)
    assert len(mounted) == 4
    for path in mounted:
        # In the checkout's own file, which hatchling reads too: an sdist must not hold them.
        folder = path.partition("/")[0]
        assert f"/deploy/{path}" in ignored or f"/deploy/{folder}/" in ignored
