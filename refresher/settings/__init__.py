"""The settings: the only reader of configuration files, environment and credentials.

Precedence: arguments, environment, secret directories, one TOML file, defaults. ``load``
gives narrow values of the domain, or every problem at once; no ``.env`` file is read.
"""

from refresher.settings.describe import SettingLine, describe
from refresher.settings.loading import load
from refresher.settings.model import (
    ControlSettings,
    DaemonSettings,
    LoadedSettings,
    LogSettings,
    RedisSettings,
    Settings,
    VaultSettings,
)
from refresher.settings.service_manager import ServiceManager, service_manager
from refresher.settings.template import template

__all__ = [
    "ControlSettings",
    "DaemonSettings",
    "LoadedSettings",
    "LogSettings",
    "RedisSettings",
    "ServiceManager",
    "SettingLine",
    "Settings",
    "VaultSettings",
    "describe",
    "load",
    "service_manager",
    "template",
]
