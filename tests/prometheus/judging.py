"""Alerts judged by promtool, queries by a Prometheus that scrapes."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refresher.demo.private_server import free_port
from tests.prometheus.run import Page, Series
from tests.prometheus.shipped import JOB, RULES, Alert, alerts
from tests.support.waiting import PATIENCE, wait_until

MINUTES_WELL, MINUTES_BAD = 12, 30
"""How long promtool takes each half of the hour for; no rule waits longer than ten minutes."""

SOON = MINUTES_WELL + 4
"""A minute in which an increase over ten minutes is still seen."""

END = MINUTES_WELL + MINUTES_BAD - 1

OF_THE_SCRAPE = {"job": JOB, "instance": "here"}

Labels = Mapping[str, str]


def series(well: Sequence[Page], bad: Sequence[Page]) -> dict[Series, list[float]]:
    """A value a minute of every series that the pages of both halves have."""
    halves = _stretched(well, MINUTES_WELL), _stretched(bad, MINUTES_BAD)
    names = [name for name in well[0] if all(name in page for page in (*well, *bad))]
    found = {name: [page[name] for half in halves for page in half] for name in names}
    found["up", frozenset()] = [1.0] * (MINUTES_WELL + MINUTES_BAD)
    # What no page of the first half has begins with the second, as an incident does.
    for name in set(bad[0]) - set(found):
        if all(name in page for page in bad):
            later = [page[name] for page in halves[1]]
            found[name] = [float("nan")] * MINUTES_WELL + later
    return found


def _stretched(pages: Sequence[Page], minutes: int) -> list[Page]:
    return [pages[minute * len(pages) // minutes] for minute in range(minutes)]


@dataclass(slots=True)
class Case:
    """One run of promtool over some series: which alerts fire in which minute, and no others."""

    values: dict[Series, list[float]]
    expected: dict[tuple[str, int], list[Labels]] = field(default_factory=dict)
    """Labels of the series that fire, by alert and minute."""

    def as_promtool(self) -> dict[str, Any]:
        known = {alert.name: alert for alert in alerts()}
        return {
            "interval": "1m",
            "input_series": [
                {"series": _written(one), "values": " ".join(map(_value, values))}
                for one, values in self.values.items()
            ],
            "alert_rule_test": [
                {
                    "eval_time": f"{minute}m",
                    "alertname": name,
                    "exp_alerts": [_expected(known[name], labels) for labels in firing],
                }
                for (name, minute), firing in self.expected.items()
            ],
        }


def _expected(alert: Alert, labels: Labels) -> dict[str, Any]:
    return {
        "exp_labels": {**labels, "severity": alert.severity},
        "exp_annotations": alert.annotations(labels),
    }


def _written(one: Series) -> str:
    name, labels = one
    inside = ", ".join(f'{k}="{v}"' for k, v in sorted({**OF_THE_SCRAPE, **dict(labels)}.items()))
    return f"{name}{{{inside}}}"


def _value(value: float) -> str:
    return "_" if value != value else repr(value)  # noqa: PLR0124  it is no number


def promtool(cases: Sequence[Case], folder: Path) -> str:
    """What promtool says of CASES; raises if it fails."""
    file = folder / "cases.yml"
    tests = [case.as_promtool() for case in cases]
    document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}
    file.write_text(json.dumps(document))  # which is YAML as well
    command = [found("promtool"), "test", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6_000:]
    return done.stdout + done.stderr


def found(program: str) -> str:
    """Where PROGRAM is."""
    path = shutil.which(program)
    assert path is not None, f"{program} is missing: apt-get install prometheus"
    return path


CONFIGURATION = """
global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
scrape_configs:
  - job_name: {job}
    static_configs: [{{ targets: ["{target}"] }}]
rule_files: ["{rules}"]
"""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running one."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that EXPRESSION brings now; raises if Prometheus refuses it."""
        asked = urllib.parse.urlencode({"query": expression})
        series: list[dict[str, Any]] = self._get(f"query?{asked}")["result"]
        return series

    def pending_or_firing(self) -> set[str]:
        """The alerts that are active by now."""
        return {alert["labels"]["alertname"] for alert in self._get("alerts")["alerts"]}

    def firing(self) -> list[dict[str, Any]]:
        """The alerts that fire by now, as Prometheus tells them."""
        return [alert for alert in self._get("alerts")["alerts"] if alert["state"] == "firing"]

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=60) as answer:  # noqa: S310  loopback
            content: dict[str, Any] = json.loads(answer.read())
        assert content["status"] == "success", content
        data: dict[str, Any] = content["data"]
        return data


@contextmanager
def scraping(target: str, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus with the rules that ship, scraping TARGET each second."""
    file = folder / "prometheus.yml"
    file.write_text(CONFIGURATION.format(job=JOB, target=target, rules=RULES))
    address = f"127.0.0.1:{free_port()}"
    command = [
        found("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            prometheus = Prometheus(f"http://{address}")
            wait_until(lambda: _answers(prometheus), description="Prometheus has scraped")
            yield prometheus
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)


def _answers(prometheus: Prometheus) -> bool:
    try:
        return bool(prometheus.query(f'up{{job="{JOB}"}} == 1'))
    except OSError:
        time.sleep(0.2)
        return False
