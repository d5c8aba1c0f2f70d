"""The fields of a grant that change, and what each of them is: the one list of them.

Whatever treats fields by their kind (a step of the clock, an outcome, a new authorization,
the rescue file, the columns of the vault) asks here.
"""

from enum import Flag, auto


class Trait(Flag):
    """What a field is, as far as somebody treats it by that."""

    OUTCOME = auto()
    """An outcome of an exchange may change it."""
    INSTANT = auto()
    """It follows a wall clock that was set back."""
    LEFT = auto()
    """An outcome may leave it as it was: what was written meanwhile stays then."""
    TAUGHT = auto()
    """What one authorization has taught; it says nothing about the next."""
    FAILING = auto()
    """Over once the server has brought tokens."""


_TOLD = Trait.OUTCOME | Trait.INSTANT | Trait.LEFT

TRAITS = {
    "state": Trait.OUTCOME,
    "reason": Trait.OUTCOME,
    "since": _TOLD,
    "revision": Trait.OUTCOME,
    "refresh_token_obtained_at": Trait.INSTANT | Trait.LEFT,
    "refresh_token_expires_at": _TOLD | Trait.TAUGHT,
    "authorized_at": _TOLD | Trait.TAUGHT,
    "end_warning_at": _TOLD | Trait.TAUGHT,
    "end_announced": Trait.OUTCOME | Trait.LEFT | Trait.TAUGHT,
    "authorized_by": Trait.OUTCOME | Trait.TAUGHT,
    "authorized_subject": Trait.OUTCOME | Trait.TAUGHT,
    "issued_at": _TOLD,
    "expires_at": _TOLD,
    "due_at": Trait.OUTCOME | Trait.INSTANT,
    "failures": Trait.OUTCOME | Trait.TAUGHT,
    "failing_since": _TOLD | Trait.TAUGHT | Trait.FAILING,
    "fault": Trait.OUTCOME | Trait.TAUGHT,
    "served_at": _TOLD | Trait.TAUGHT,
    "refused_at": _TOLD | Trait.TAUGHT | Trait.FAILING,
    "refusals": Trait.OUTCOME | Trait.TAUGHT,
    "refresh_window": Trait.OUTCOME | Trait.TAUGHT,
    "early_refusals": Trait.OUTCOME | Trait.TAUGHT,
    "requested_at": Trait.INSTANT | Trait.LEFT,
    "request_interval": Trait.OUTCOME | Trait.TAUGHT,
}
"""By the name of the field, which is also its column's. Intent and rejection are compound
and written out where they are stored."""


def fields_with(trait: Trait) -> tuple[str, ...]:
    """The fields that have TRAIT."""
    return tuple(name for name, traits in TRAITS.items() if trait in traits)
