"""The file that ``refresher init`` writes is right, also with its examples taken in."""

import re
import tomllib

from refresher.domain.grants import GrantKind
from refresher.settings import template
from refresher.settings.document import Document
from tests.settings.conftest import Bench


def uncommented() -> str:
    return re.sub(r"^#(?=[\[a-z])", "", template(), flags=re.MULTILINE)


def test_the_template_loads_as_it_is(bench: Bench) -> None:
    loaded = bench.load(template())
    assert (loaded.settings.clients, loaded.settings.seeds, loaded.warnings) == ({}, [], ())


def test_the_template_loads_with_its_examples(bench: Bench) -> None:
    for name in ("redis", "cameras", "acme-billing", "acme-static"):
        bench.write(f"{name}.secret", f"{name}\n")
    bench.write("notify.secret", "whsec_" + 8 * "YWFh")
    loaded = bench.load(uncommented(), {"ACME_CLIENT_SECRET": "x"})
    assert loaded.warnings == ()
    assert set(loaded.settings.clients) == {"cameras", "acme"}
    assert {seed.name: seed.kind for seed in loaded.settings.seeds} == {
        "warehouse-cameras": GrantKind.REFRESHABLE,
        "acme-billing": GrantKind.REFRESHABLE,
        "acme-static": GrantKind.STATIC,
    }


def test_the_template_shows_every_section() -> None:
    assert set(tomllib.loads(uncommented())) == set(Document.model_fields) - {"secrets_dir"}


def test_examples_of_defaults_are_the_defaults(bench: Bench) -> None:
    without_tables = uncommented().partition("[clients.")[0].replace("#", "")
    keys = re.findall(r"^(?:\[\w+\]|\w+ = .*)$", without_tables, flags=re.MULTILINE)
    plain = "\n".join(key for key in keys if not key.startswith(("password", "listen")))
    assert bench.load(plain).settings == bench.load("").settings
