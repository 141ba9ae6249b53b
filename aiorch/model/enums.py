"""The closed sets of the language. Definitions and stored documents hold the values."""

from enum import StrEnum


class NodeTypes(StrEnum):
    """Kinds of nodes that come with aiorch. The name of any other kind is a plain text."""

    TASK = "Task"
    PARALLEL = "Parallel"
    PASS = "Pass"  # noqa: S105  no password
    FAIL = "Fail"
    CHOICE = "Choice"
    WAIT = "Wait"


class TargetTypes(StrEnum):
    """Kinds of targets that come with aiorch. ``Start`` is the type of start events, and never of a task."""

    START = "Start"
    FUNCTION = "Function"
    CLOUD_FUNCTION = "CloudFunction"
    DATAFLOW = "Dataflow"


class DataflowTemplateType(StrEnum):
    """Packaging of a Dataflow job."""

    CLASSIC = "Classic"
    FLEX = "Flex"


class OnFailure(StrEnum):
    """The treatment of the remaining branches of a ``Parallel`` when one branch has failed."""

    FAIL_FAST = "fail_fast"
    WAIT = "wait"


class OnLost(StrEnum):
    """The decision about an attempt whose outcome will never be known."""

    RETRY = "retry"
    FAIL = "fail"


class OnNoResult(StrEnum):
    """The decision about a call that succeeded, as an event says, and whose answer with the result was lost."""

    ACCEPT = "accept"
    """The task completes with the result null."""

    CALL_AGAIN = "call_again"
    """The same execution is sent again, under its execution id."""

    FAIL = "fail"
