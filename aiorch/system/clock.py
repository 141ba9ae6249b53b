"""The real clock."""

from datetime import UTC, datetime


class SystemClock:
    """Time of day of this machine."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        return datetime.now(UTC)
