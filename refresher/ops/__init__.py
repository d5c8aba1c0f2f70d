"""What operators and supervisors reach: the control socket, health, systemd.

This room receives callables and narrow values; it knows no engine, no vault and no
Redis. ``protocol`` and ``health`` import neither aiohttp nor the logs, so that
``refresher health`` starts fast.
"""
