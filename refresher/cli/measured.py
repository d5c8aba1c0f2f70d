"""What was measured, as a table, as an entry of the catalogue, and as settings to paste."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from datetime import date
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from refresher.domain.clients import Client
from refresher.domain.quirks import Quirks, Rotation, keys
from refresher.oauth.measuring.judgement import CANNOT_TELL, Conclusion
from refresher.oauth.measuring.observed import Evidence
from refresher.providers import Provider
from refresher.providers.entries import BASE_URL, TOLD_BY_FACTS

WIDTH = 79

NAMES: Mapping[str, str] = {
    "has_refresh_token": "a login brings a refresh token",
    "refuses_early": "a refresh can be too early",
    "rotates": "a refresh rotates",
    "rotation": "rotation",
    "replay": "the used one, presented again",
    "replay_seconds": "it is accepted for",
    "replay_ends": "that ends",
    "replay_brings": "it brings",
    "reuse_kills_grant": "a refused reuse ends the grant",
    "kills_access_token": "a refresh ends the access token",
    "revoking_refresh_token_kills_access_token": "revoking refresh ends access",
    "revoking_access_token_kills_refresh_token": "revoking access ends refresh",
}
"""What each question is called."""

MEASURED_FACTS = ("has_refresh_token", "kills_access_token", "reuse_kills_grant")
"""Facts of the catalogue that are a finding as it is."""

ENDPOINTS = ("authorization_endpoint", "token_endpoint", "refresh_endpoint", "revocation_endpoint")

LIFETIME_KEYS = frozenset({"default_expires_in", "no_expiry"})


def told(result: Mapping[str, Any]) -> Iterator[str]:
    """The findings of RESULT for a person."""
    for finding in result["findings"]:
        name = NAMES[finding["question"]]
        evidence = f" ({finding['evidence']})" if finding["evidence"] else ""
        yield from textwrap.wrap(
            f"{name + ':':<33} {finding['answer']}{evidence}", WIDTH, subsequent_indent=" " * 34
        )
    for each in result["dead"]:
        status = "" if each["status"] is None else f"{each['status']} "
        words = each["body"] or each["error"]
        yield f"{'a dead one (' + each['why'] + '):':<33} {status}{words}"
    for remark in result["remarks"]:
        yield from textwrap.wrap(f"note: {remark}", WIDTH, subsequent_indent="  ")


def settings_to_paste(client: Client, conclusion: Conclusion) -> Iterator[str]:
    """TOML of the keys of CLIENT that were measured."""
    if not conclusion.settings:
        yield f"# nothing to set for client {client.name}"
        return
    yield _table(("clients", client.name))
    for key, value in conclusion.settings.items():
        ours = getattr(client.quirks, key)
        joined = tuple(dict.fromkeys((*ours, *value))) if isinstance(value, list) else value
        yield f"{key} = {_toml(joined)}"


def entry_lines(
    client: Client,
    provider: Provider | None,
    conclusion: Conclusion,
    evidence: Evidence,
    *,
    today: date,
) -> Iterator[str]:
    """An entry of the catalogue for the server of CLIENT.

    Args:
        provider: what the catalogue has of it already.
    """
    asked = len(evidence.grants)
    yield f"# Measured on {today} by `refresher providers measure`, with {asked} login(s)."
    title = provider.title if provider else client.description or client.name
    yield f"title = {_toml(title)}"
    page = provider.documentation if provider else "https://developers.acme.example/oauth"
    yield f"documentation = {_toml(page)}" + ("" if provider else "  # name the real page")
    console = provider.console if provider else "Where to register a client, in one sentence."
    yield f"console = {_toml(console)}"
    base = _base_url(client)
    if base is not None:
        yield from (
            *("", f"[variables.{BASE_URL}]", 'meaning = "the server"'),
            'example = "https://auth.acme.example"',
        )
    yield from ("", "[settings]")
    yield from _settings(client, conclusion, base)
    yield from ("", "[facts]")
    facts = list(_facts(conclusion, evidence))
    for key, value, words in facts:
        if words:
            yield from textwrap.wrap(words, WIDTH, initial_indent="# ", subsequent_indent="# ")
        yield f"{key} = {_toml(value)}"
    yield from _unanswered(conclusion)
    yield from _answers(conclusion)
    yield from _source(client, [key for key, _, _ in facts], conclusion, today)


def _settings(client: Client, conclusion: Conclusion, base: str | None) -> Iterator[str]:
    endpoints = client.endpoints
    urls = (
        *(endpoints.authorization, endpoints.token, endpoints.refresh),
        endpoints.revocation.endpoint if endpoints.revocation else None,
    )
    for key, url in zip(ENDPOINTS, urls, strict=True):
        if url is not None:
            yield f"{key} = {_toml(url.removeprefix(base or ''))}"
    for quirk in keys(Quirks):
        value = getattr(client.quirks, quirk.name)
        if quirk.name in TOLD_BY_FACTS or quirk.name in LIFETIME_KEYS:
            continue
        if quirk.name in conclusion.settings:
            value = tuple(dict.fromkeys((*value, *conclusion.settings[quirk.name])))
        if value != quirk.default:
            yield f"{quirk.name} = {_toml(value)}"


def _facts(conclusion: Conclusion, evidence: Evidence) -> Iterator[tuple[str, Any, str]]:
    """Each fact with its value and what was seen."""
    seen = {finding.question: finding for finding in conclusion.findings}
    if conclusion.rotation is not None:
        replay = seen["replay_seconds"]
        words = [seen["rotation"].evidence, replay.evidence or seen["replay"].evidence]
        if seen["replay_ends"].value:
            words.append(f"it ends {seen['replay_ends'].answer}")
        yield "rotation", conclusion.rotation, "; ".join(filter(None, words))
    lifetime = evidence.grants[0].first.expires_in if evidence.grants else None
    if lifetime is not None and lifetime > 0:
        yield "access_token_lifetime", f"{lifetime:.0f}s", "what expires_in said"
    for key in MEASURED_FACTS:
        finding = seen[key]
        # A refresh token is what everybody has: the fact is told where there is none.
        if finding.value is not None and not (key == "has_refresh_token" and finding.value):
            yield key, finding.value, finding.evidence
    if "refresh_window" in conclusion.settings:
        window = conclusion.settings["refresh_window"]
        yield "refresh_window", f"{window:.0f}s", seen["refuses_early"].evidence


def _unanswered(conclusion: Conclusion) -> Iterator[str]:
    names = [
        NAMES[finding.question] for finding in conclusion.findings if finding.answer == CANNOT_TELL
    ]
    if names:
        yield from textwrap.wrap(
            f"{CANNOT_TELL}: {'; '.join(names)}.",
            WIDTH, initial_indent="# ", subsequent_indent="# ",
        )  # fmt: skip


def _answers(conclusion: Conclusion) -> Iterator[str]:
    listed = conclusion.settings.get("rejection_codes", ())
    for why, said in conclusion.dead:
        if not said.body or not (said.means_dead or said.error in listed):
            yield f"# A dead one ({why}) is answered {said.status or 'with nothing'}: {said.error}."
            continue
        yield from ("", f"# {why}", "[[facts.answers]]", f"status = {said.status}")
        yield from (f"body = {_toml(said.body)}", 'means = "dead"')


def _source(
    client: Client, told_keys: list[str], conclusion: Conclusion, today: date
) -> Iterator[str]:
    parts = urlsplit(client.endpoints.token)
    if parts.scheme != "https":
        yield "# Measured over http, so there is no source to name: no such server is in public."
        return
    says = [
        *told_keys,
        *(["answers"] if any(said.means_dead for _, said in conclusion.dead) else []),
    ]
    yield from ("", "[[sources]]", f"url = {_toml(f'https://{parts.netloc}/')}")
    yield from (f"read = {today}", "measured = true", f"says = {_toml(tuple(says))}")


def _base_url(client: Client) -> str | None:
    """What stands before the paths of a server whose endpoints no entry may name."""
    parts = urlsplit(client.endpoints.token)
    return None if parts.scheme == "https" else f"{parts.scheme}://{parts.netloc}"


def _table(path: tuple[str, ...]) -> str:
    parts = (part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else _toml(part) for part in path)
    return f"[{'.'.join(parts)}]"


def _toml(value: Any) -> str:
    """VALUE in TOML, whose strings are those of JSON."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml(name)} = {_toml(each)}" for name, each in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Rotation | Enum):
        return json.dumps(str(value))
    return json.dumps(value)
