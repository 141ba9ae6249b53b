"""
Check that the types of the public API are complete: every symbol has a type that all type checkers see alike.

`basedpyright --verifytypes` takes every module of the package for public. Left out here are loggers, and the modules of
the command line and the service, which no program imports. All other symbols must be complete.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

NOT_PUBLIC = re.compile(r"aiorch\.(?:cli|service)\..*|aiorch\..*\.?\w*logger")


def main() -> int:
    """Print the incomplete symbols, and return 1 when there are any."""
    folder = Path(sys.executable).parent
    done = subprocess.run(  # noqa: S603  the program of this environment
        [folder / "basedpyright", "--verifytypes", "aiorch", "--ignoreexternal", "--outputjson"],
        env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"},
        capture_output=True,
        text=True,
        check=False,
    )
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    public = [symbol for symbol in symbols if not NOT_PUBLIC.fullmatch(symbol["name"])]
    if len(public) < 1000:
        print(
            f"only {len(public)} public symbols were found, so nothing was checked:\n{done.stdout[:1000]}{done.stderr}"
        )
        return 1
    incomplete = [symbol for symbol in public if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]]
    for symbol in incomplete:
        reasons = {each["message"].partition("\n")[0] for each in symbol["diagnostics"]}
        print(f"{symbol['name']}: {'; '.join(sorted(reasons))}")
    print(f"{len(public) - len(incomplete)} of {len(public)} public symbols have complete types")
    return 1 if incomplete else 0


if __name__ == "__main__":
    sys.exit(main())
