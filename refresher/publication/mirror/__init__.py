"""The mirror: keeps Redis showing what the vault holds, whatever happens to Redis.

``life`` connects and starts over, ``reconciler`` does the work in steps, the others find
out what there is to do: ``worklist``, ``observation``, ``sweep`` and ``polling``.
"""
