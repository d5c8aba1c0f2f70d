"""The rules, pure: what a grant is, when it is due, what an outcome means for it.

No I/O, no clock, no randomness of its own, no library: time and chance are arguments.
"""
