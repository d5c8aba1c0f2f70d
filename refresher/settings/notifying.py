"""Whom to tell what happens: the [[notify]] of the settings, judged."""

from collections.abc import Sequence
from pathlib import Path

from refresher.domain.notifications import Kind, Target, signing_key
from refresher.domain.secret import Secret
from refresher.settings.commands import clean
from refresher.settings.document import NotifySection
from refresher.settings.layers import KeyPath
from refresher.settings.report import Report, shown
from refresher.settings.secret_reader import SecretReader
from refresher.settings.urls import webhook_fault


def read_targets(
    sections: Sequence[NotifySection], base: Path, secrets: SecretReader, report: Report
) -> tuple[Target, ...]:
    """The target of each of SECTIONS; what is wrong with one is reported."""
    return tuple(
        _target(("notify", place), section, base, secrets, report)
        for place, section in enumerate(sections)
    )


def _target(
    path: KeyPath, section: NotifySection, base: Path, secrets: SecretReader, report: Report
) -> Target:
    if bool(section.command) is (section.url is not None):
        report.problem(path, "takes a url or a command, and not both")
    url = secrets.read((*path, "url"), section.url, is_url=True)
    if url is not None and (fault := webhook_fault(url.reveal())) is not None:
        report.problem((*path, "url"), fault)
    return Target(
        setting=shown(path),
        url=url,
        key=_key(path, section, secrets, report),
        command=section.command,
        environment=clean(secrets.environment),
        folder=base,
        kinds=frozenset(section.events or Kind),
    )


def _key(
    path: KeyPath, section: NotifySection, secrets: SecretReader, report: Report
) -> Secret | None:
    path = (*path, "secret")
    if section.secret is None:
        if section.url is not None:
            report.problem(
                path,
                "is missing: without it a receiver cannot tell whose word it is; make one with "
                '`echo "whsec_$(openssl rand -base64 32)"`',
            )
        return None
    if section.command:
        report.warning(path, "has no effect on a command: take it away")
    key = secrets.read(path, section.secret)
    if key is not None:
        try:
            signing_key(key.reveal())
        except ValueError as error:
            report.problem(path, str(error))
    return key
