"""The wire: one request, what came back, and whether the request left this machine.

``post`` sends and judges. ``connections`` keeps every byte below the HTTP library,
``second_reader`` reads what the library refuses, ``names`` resolves host names in threads
of its own, ``trust`` keeps the TLS contexts, ``faults`` says what broke in a closed
vocabulary. The exceptions of the library may quote the URL, and none gets out of here.
"""

from refresher.oauth.transport.post import CONNECT_WITHIN, Transport
from refresher.oauth.transport.replies import LARGEST_ANSWER, Reply

__all__ = ["CONNECT_WITHIN", "LARGEST_ANSWER", "Reply", "Transport"]
