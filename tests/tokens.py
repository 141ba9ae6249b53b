"""ID tokens as Google makes them, but for the signature."""

import base64
import json
from typing import Any

AUDIENCE = "https://europe-west1-acme.cloudfunctions.net/load"
NOW = 1_700_000_000


def an_id_token(audience: str = AUDIENCE, exp: Any = NOW + 3600, serial: int = 1) -> str:
    """Return a token for *audience* that expires at *exp*, in seconds since 1970."""
    parts = ({"alg": "RS256"}, {"aud": audience, "exp": exp, "serial": serial})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])
