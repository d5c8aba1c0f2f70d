"""What the manifests promise; ``python -m tests.kubernetes`` renders them."""

from typing import Any

import kubernetes_validate
import pytest
import yaml

from refresher.ops.health import CHECK_WITHIN, Probe
from refresher.settings.loading import load
from tests.deploy.files import CHECKOUT, unit_of
from tests.kubernetes import FOLDER

UNIT = unit_of(CHECKOUT / "deploy" / "refresher.service")
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MANIFESTS = {
    name: yaml.safe_load((FOLDER / name).read_text()) for name in KUSTOMIZATION["resources"]
}
SET = MANIFESTS["statefulset.yaml"]["spec"]
POD = SET["template"]["spec"]
(CONTAINER,) = POD["containers"]
VARIABLES = {each["name"]: each["value"] for each in CONTAINER["env"]}
MOUNTED = {each["mountPath"]: each for each in CONTAINER["volumeMounts"]}


def test_every_manifest_is_rendered() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*MANIFESTS, "kustomization.yaml"}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_is_strictly_valid(name: str) -> None:
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(MANIFESTS[name], version, strict=True)


def test_there_is_one_daemon_and_its_vault_stays() -> None:
    assert SET["replicas"] == 1
    assert set(SET["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}
    (claim,) = SET["volumeClaimTemplates"]
    assert MOUNTED["/var/lib/refresher"]["name"] == claim["metadata"]["name"]


def test_it_is_as_restricted_as_the_namespace_demands() -> None:
    labels = MANIFESTS["namespace.yaml"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert POD["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["automountServiceAccountToken"] is False


def test_no_variable_is_made_that_would_be_read_as_a_setting() -> None:
    assert POD["enableServiceLinks"] is False


def test_it_has_the_bounds_of_the_unit() -> None:
    assert POD["terminationGracePeriodSeconds"] == int(UNIT["TimeoutStopSec"][0])
    assert CONTAINER["resources"]["limits"]["memory"] == f"{UNIT['MemoryMax'][0]}i"
    startup = CONTAINER["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == int(UNIT["TimeoutStartSec"][0])


@pytest.mark.parametrize(
    ("name", "probe"),
    [("startup", Probe.LIVE), ("liveness", Probe.LIVE), ("readiness", Probe.READY)],
)
def test_a_probe_asks_what_it_is_for(name: str, probe: Probe) -> None:
    asked: dict[str, Any] = CONTAINER[f"{name}Probe"]
    assert asked["httpGet"] == {"path": f"/{probe}", "port": "http"}
    assert asked["timeoutSeconds"] > CHECK_WITHIN
    (port,) = CONTAINER["ports"]
    assert VARIABLES["REFRESHER_HTTP__LISTEN"].rpartition(":")[2] == str(port["containerPort"])


def test_its_settings_can_be_used() -> None:
    settings = load(FOLDER / "refresher.toml", environment=VARIABLES).settings
    assert str(settings.vault.key_file.parent) in MOUNTED
    assert all(MOUNTED[path]["readOnly"] for path in MOUNTED if path.startswith(("/run", "/etc")))
    assert KUSTOMIZATION["configMapGenerator"] == [
        {"name": "refresher", "files": ["refresher.toml"]}
    ]
