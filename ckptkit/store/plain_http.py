"""One request to a server by the standard library, asked again where the server stumbles.

For what the stores' library has no call for. An address may be signed: it is never part of a message.
"""

from __future__ import annotations

import http.client
import random
import time
import urllib.error
import urllib.request
from collections.abc import Mapping

from .._typing import NamedTuple
from ..errors import CheckpointError

TRIES, WAIT = 6, 0.2  # requests, and seconds before the second of them; each wait is twice the one before
_AGAIN = {408, 429, 500, 502, 503, 504}


class Answer(NamedTuple):
    """A status, the headers by their names in small letters, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(method: str, url: str, label: str, *, body: bytes | memoryview | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """The server's answer, whatever its status. CheckpointError where there is none: `label` is what the message names."""
    answer: Answer | None = None
    for k in range(TRIES):
        if k:
            time.sleep(WAIT * 2 ** (k - 1) * (1 + random.random()))
        made = urllib.request.Request(url, data=body, method=method, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(made, timeout=600) as got:
                return Answer(got.status, {n.lower(): v for n, v in got.headers.items()}, got.read())
        except urllib.error.HTTPError as e:
            with e:
                answer = Answer(e.code, {n.lower(): v for n, v in e.headers.items()}, e.read())
            if e.code not in _AGAIN:
                return answer
        except (OSError, http.client.HTTPException):
            answer = None
    if answer is None:
        raise CheckpointError("its server cannot be reached", path=label, hint="check the address, the network and the proxy settings")
    return answer
