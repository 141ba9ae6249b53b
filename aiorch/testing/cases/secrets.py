"""`ScriptedSecrets`: a value for every secret of a case, in place of the sources of an operator."""

from collections.abc import Iterable, Mapping


class ScriptedSecrets:
    """An `aiorch.ports.secrets.Secrets` that has every secret, with the value ``secret NAME``."""

    def why_not(self, name: str) -> str | None:  # noqa: ARG002  it has all
        """Return `None`: a case has every secret."""
        return None

    async def values(self, names: Iterable[str]) -> Mapping[str, str]:
        """Return secrets by name."""
        return {name: f"secret {name}" for name in names}

    async def aclose(self) -> None:
        """Do nothing: there is nothing to release."""
