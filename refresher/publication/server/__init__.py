"""Redis: connections, faults, and every command that is about one server.

``masters`` says where keys are written: ``connection`` has the one server of a URL, ``sentinel``
the master that sentinels name, and ``cluster`` the masters of a cluster; ``opening`` chooses. Time,
information, scans, scripts and tracking are asked of each master. The only room that imports
``redis``.
"""
