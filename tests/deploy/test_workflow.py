"""What the workflow may do, and that it decides nothing."""

import re

import yaml

from tests.deploy.files import CHECKOUT

(PATH,) = (CHECKOUT / ".github" / "workflows").iterdir()
WORKFLOW = yaml.safe_load(PATH.read_text())
STEPS = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def test_it_calls_what_everybody_can_call() -> None:
    (command,) = [step["run"] for step in STEPS if "run" in step]
    assert " bash .ci/run " in command


def test_it_may_read_and_nothing_else() -> None:
    assert WORKFLOW["permissions"] == {}
    assert [job["permissions"] for job in WORKFLOW["jobs"].values()] == [{"contents": "read"}]


def test_nobody_can_change_an_action_under_it() -> None:
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert used
    assert [use for use in used if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", use)] == []
