"""An OAuth 2.0 authorization server with scripted faults, for the demo and the tests.

It stands apart: the daemon knows nothing of it, and it knows nothing of the daemon.
It keeps everything in memory, listens on loopback only, and tells what it saw. Used in
process (``Sandbox``) or as a process of its own (``refresher sandbox``).
"""

from refresher.sandbox.applications import Application
from refresher.sandbox.exchange_log import ExchangeRecord
from refresher.sandbox.families import TokenPolicy
from refresher.sandbox.faults import (
    AlterAnswer,
    DropAfter,
    DropBefore,
    Fault,
    FaultMix,
    FaultPlan,
    Raw,
    Redirect,
    RetryAfter,
    Slow,
    Status,
    StatusAfter,
    Truncate,
)
from refresher.sandbox.messages import Minted
from refresher.sandbox.openness import Openness
from refresher.sandbox.options import SandboxOptions
from refresher.sandbox.server import Sandbox

__all__ = [
    "AlterAnswer",
    "Application",
    "DropAfter",
    "DropBefore",
    "ExchangeRecord",
    "Fault",
    "FaultMix",
    "FaultPlan",
    "Minted",
    "Openness",
    "Raw",
    "Redirect",
    "RetryAfter",
    "Sandbox",
    "SandboxOptions",
    "Slow",
    "Status",
    "StatusAfter",
    "TokenPolicy",
    "Truncate",
]
