from tests.support.valkey import session_valkey, shared_valkey, valkey

__all__ = ["session_valkey", "shared_valkey", "valkey"]
