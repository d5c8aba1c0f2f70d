"""Rules and dashboard ask for what there is, and alerts lead to lines that exist."""

import json
import re

import pytest

from tests.pages.reading import ROOT, first_cells
from tests.prometheus.shipped import DASHBOARD, Alert, alerts, queries, samples

SELECTOR = re.compile(r"\b(up|(?:refresher|process)_\w+)(?:\{([^}]*)\})?")
OF_THE_SCRAPE = {"job", "instance"}
SEVERITIES = {"page", "ticket"}
EXPRESSIONS = [
    *(pytest.param(alert.expression, id=alert.name) for alert in alerts()),
    *(pytest.param(expression, id=title) for title, expression in queries()),
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_query_asks_for_metrics_and_labels_that_exist(expression: str) -> None:
    known = samples()
    selectors = SELECTOR.findall(expression)
    assert selectors
    for name, matchers in selectors:
        assert name in known
        asked = set(re.findall(r"(\w+)(?:=~|!=|!~|=)", matchers))
        assert asked <= {*known[name], *OF_THE_SCRAPE}
    labels = {label for name, _ in selectors for label in samples()[name]}
    grouped = {
        label for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(", ")
    }
    assert grouped <= labels | OF_THE_SCRAPE


def test_the_rules_are_found() -> None:
    assert len({alert.name for alert in alerts()}) == len(alerts()) == 16
    assert {alert.severity for alert in alerts()} == SEVERITIES


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_every_alert_names_a_line_for_the_person_woken(alert: Alert) -> None:
    place, _, line = alert.runbook.partition(", ")
    page, _, anchor = place.partition("#")
    headings = re.findall(r"^(##+ .+)$", (ROOT / page).read_text(), flags=re.MULTILINE)
    anchors = {
        re.sub(r"[^\w -]", "", heading.lstrip("# ").lower()).replace(" ", "-"): heading
        for heading in headings
    }
    assert anchor in anchors
    if line and "$labels" not in line:
        assert line in first_cells(anchors[anchor])


def test_the_dashboard_can_be_imported() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert {panel["id"] for panel in panels} == set(range(1, len(panels) + 1))
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    assert {one["name"] for one in dashboard["templating"]["list"]} == {"datasource", "job"}
    assert dashboard["uid"] == "refresher"
