"""The error of expressions, raised while a text is read and while a value is worked out."""

from aiorch.errors import AiorchError


class ExpressionError(AiorchError, ValueError):
    """
    An expression is not valid, or has no value.

    Attributes:
        reason: The mistake, without the expression.

        column: Place of the mistake in the expression, counted from 1.
    """

    def __init__(self, reason: str, column: int = 1) -> None:
        self.reason: str = reason
        self.column: int = column
        super().__init__(f"{reason} (column {column})")


class UnknownFunctionError(ExpressionError):
    """An expression calls a function that this version does not have."""
