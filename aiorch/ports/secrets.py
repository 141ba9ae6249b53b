"""`Secrets`: the secrets that an operator gives to a process, for the parameters of tasks."""

from collections.abc import Iterable, Mapping
from typing import Protocol


class Secrets(Protocol):
    """Knows where the secrets of this process come from. A definition only names them."""

    def why_not(self, name: str) -> str | None:
        """Say why this process does not have a secret, `None` if it does. Asks no other system."""
        ...

    async def values(self, names: Iterable[str]) -> Mapping[str, str]:
        """
        Return secrets by name.

        Raises:
            SecretError: One of them cannot be read at present.
        """
        ...

    async def aclose(self) -> None:
        """Release the connections."""
        ...


def no_secret(name: str) -> str:
    """Say that a process does not have a secret, and how an operator gives it."""
    return f"this process has no secret {name!r}; name its source with --secret or AIORCH_SECRETS"


class NoSecrets:
    """A process to which no secret is given."""

    def why_not(self, name: str) -> str | None:
        """Say that this process does not have the secret."""
        return no_secret(name)

    async def values(self, names: Iterable[str]) -> Mapping[str, str]:
        """Return no secret: `why_not` keeps all tasks that need one."""
        assert not list(names)
        return {}

    async def aclose(self) -> None:
        """Do nothing: there is nothing to release."""
