"""What was logged, for tests that read it right after."""

import io

from refresher import logs


class LogOutput(io.StringIO):
    """An output in memory that is read once everything logged so far has been written."""

    def getvalue(self) -> str:
        """Everything logged so far."""
        assert logs.flush(within=30), "the log's thread did not write"
        return super().getvalue()
