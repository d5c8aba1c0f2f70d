"""A simulation of the real engine under virtual time; also a command.

The real scheduler, refresh, durability, recovery, admission, watch and administration run
on the real vault, on event loops whose time is virtual, against the sandbox's pure
authorization server. At every await into the outside and between any two callbacks a
fault may strike. After every transaction the guarantees are checked from outside.
``python -m tests.simulation --steps 1000000 --seed 1`` prints what happened; the same
seed replays it.
"""

from tests.simulation.chance import Violated
from tests.simulation.run import simulate, simulate_traced

__all__ = ["Violated", "simulate", "simulate_traced"]
