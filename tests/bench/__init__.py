"""How fast this daemon is, as ratios to what is measured beside it in the same session.

``python -m tests.bench --quick --only 1`` measures; pytest collects only the tests of its parts.
"""
