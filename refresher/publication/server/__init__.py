"""One Redis: connections, faults, and every command that is about one server.

Time, information, scans, scripts, tracking and reads of many keys at once ask the node
that they are sent to; here is where a cluster would ask each of its nodes. The only room
that imports ``redis``.
"""
