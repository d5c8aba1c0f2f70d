"""What a process needs before anything is imported that takes time or opens files."""

import os
import signal
import sys
from types import TracebackType

HELD = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


def fill_standard_streams() -> None:
    """Open the null device where stdin, stdout or stderr is closed.

    The next file would get its number: the vault would be where others write their output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            name = ("stdin", "stdout", "stderr")[number]
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def hold_signals_back() -> None:
    """Let signals wait in the kernel until it is known what is to be done with them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def end_in_order_when_told() -> None:
    """Let SIGTERM and SIGHUP do what Ctrl-C does: an exchange under way is committed first.

    Those that are ignored stay ignored (nohup), but for SIGINT itself: a script's shell lets
    what it starts with ``&`` ignore it, and then nothing would end the command.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


def end_undisturbed() -> None:
    """Let no signal interrupt the end of the process: what was asked for is done or given up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def tell_of_nothing_half_made() -> None:
    """Leave unsaid what finalizers complain of, once a command was interrupted.

    What Ctrl-C struck while it was made, as an event loop, is finalized without ever being whole.
    """
    sys.unraisablehook = lambda _: None


def show_no_interruption() -> None:
    """Let Ctrl-C end the process without a traceback, wherever it strikes.

    Nearly everywhere it is caught and told. In the few instructions where it is not, Python would
    print where it was: at the end of a handler, or in a finalizer, which goes on after it.
    """
    show, show_unraisable = sys.excepthook, sys.unraisablehook

    def unless_interrupted(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if kind is not KeyboardInterrupt:
            show(kind, error, trace)

    def unless_unraisable_interruption(told: "sys.UnraisableHookArgs") -> None:
        if told.exc_type is not KeyboardInterrupt:
            show_unraisable(told)

    sys.excepthook, sys.unraisablehook = unless_interrupted, unless_unraisable_interruption
