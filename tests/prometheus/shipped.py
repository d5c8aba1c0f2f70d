"""The files of ``deploy/prometheus``, piece by piece."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from refresher.ops.metric_catalogue import METRICS, PROCESS_METRICS, Kind

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES, DASHBOARD = FOLDER / "rules.yml", FOLDER / "dashboard.json"

JOB = "refresher"
"""What the scrape job is called."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule."""

    name: str
    expression: str
    severity: str
    summary: str
    runbook: str

    def annotations(self, labels: Mapping[str, str]) -> dict[str, str]:
        """What it says of a series with LABELS."""
        return {"summary": _filled(self.summary, labels), "runbook": _filled(self.runbook, labels)}


def _filled(text: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels[found[1]], text)


def alerts() -> list[Alert]:
    """Every rule, in order."""
    return [_alert(block) for block in RULES.read_text().split("- alert: ")[1:]]


def _alert(block: str) -> Alert:
    def value(key: str) -> str:
        found = re.search(rf"^ +{key}: (?:>-\n((?: {{10}}.+\n)+)|(.+)$)", block, re.MULTILINE)
        assert found is not None, (key, block)
        return " ".join((found[1] or found[2]).split()).strip('"')

    return Alert(
        block.partition("\n")[0],
        *(value(key) for key in ("expr", "severity", "summary", "runbook")),
    )


def queries() -> Iterator[tuple[str, str]]:
    """Title of the panel and expression of every query of the dashboard."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def samples() -> Mapping[str, tuple[str, ...]]:
    """Every name that a query may begin with, and the labels it may ask for besides the job's."""
    known: dict[str, tuple[str, ...]] = {"up": ()}
    for metric in METRICS:
        known[metric.sample] = metric.labels
        if metric.kind is Kind.HISTOGRAM:
            known[f"{metric.name}_bucket"] = (*metric.labels, "le")
    for name in PROCESS_METRICS:
        known[name] = ()
    return known
