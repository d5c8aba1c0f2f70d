"""refresher keeps OAuth 2.0 grants alive and publishes their access tokens to Redis.

The daemon owns refresh tokens and client secrets; consumers in any language read
one Redis key and never run OAuth themselves.
"""

__version__ = "0.1.0"
