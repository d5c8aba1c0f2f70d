"""structlog without rich.

It imports rich wherever that is installed, to format tracebacks, and no line of ours has one:
5 MB of every daemon and 40 ms of every start. Without rich it works as well.
"""

import sys

_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]  # what import takes for "not installed"
try:
    import structlog
    from structlog.typing import EventDict, Processor, WrappedLogger
finally:
    if _rich is None:
        del sys.modules["rich"]
    else:
        sys.modules["rich"] = _rich

__all__ = ["EventDict", "Processor", "WrappedLogger", "structlog"]
