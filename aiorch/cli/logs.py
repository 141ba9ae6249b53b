"""Log records as lines for people: a constant message, and the facts of this case as ``key=value`` behind it."""

import logging

from aiorch.views.escaping import escaped

_NO_FACTS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class FactsFormatter(logging.Formatter):
    """One line per record, its `extra` fields at the end; a traceback follows if there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line and the traceback, with nothing in them that a terminal would act upon."""
        return escaped(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name is the base's
        """Return the line."""
        facts = (f" {key}={value!r}" for key, value in vars(record).items() if key not in _NO_FACTS)
        return super().formatMessage(record) + "".join(facts)


def log_to_stderr(level: str) -> None:
    """Let everything of at least this level be written to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(FactsFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
