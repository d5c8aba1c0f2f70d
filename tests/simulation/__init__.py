"""A simulation of the real engine under virtual time; also a command.

The real scheduler, refresh, durability, recovery, admission, watch, revoking and
administration run on the real vault, on event loops whose time is virtual, against the
sandbox's pure authorization server and the wrong words of real ones. At every await into the
outside and between any two callbacks a fault may strike, and people do what people do. After
every transaction the guarantees are checked from outside. In some worlds hours pass, in some
nothing but grants and servers fails.
``python -m tests.simulation --steps 1000000 --seed 1`` prints what happened; the same
seed replays it.
"""

from tests.simulation.chance import Violated
from tests.simulation.run import simulate, simulate_traced

__all__ = ["Violated", "simulate", "simulate_traced"]
