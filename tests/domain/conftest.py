"""Hypothesis as a busy machine needs it: no time limit for one example, nothing left on disk."""

from hypothesis import settings

settings.register_profile("refresher", deadline=None, database=None)
settings.load_profile("refresher")
