"""Every field that what is logged may have."""

FIELDS = frozenset(
    {
        "attempts", "client", "clients", "copied_at", "count", "days", "due_at", "duration_ms",
        "ends_at", "error", "error_code", "expires_at", "failures", "file", "gone", "grant",
        "grants", "instance", "key_id", "name", "new", "next_attempt_at", "offset_s", "origin",
        "outcome", "overdue_s", "path", "pid", "problems", "reason", "refresh_token_age_s",
        "refresh_token_idle_s", "remaining_s", "repair", "replay", "replica", "retry_s", "revision",
        "rotated", "sequence", "server", "setting", "signal", "since", "state", "status", "task",
        "traceback", "uid", "vault", "version", "waited_ms", "warnings", "was",
    }
)  # fmt: skip
"""Every field a line may have besides ``event``, ``level`` and ``timestamp``."""
