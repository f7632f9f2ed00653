"""One request to a server by the standard library, asked again where the server stumbles. Connections are kept for the next request.

For what the stores' library has no call for. An address may be signed: it is never part of a message.
"""

from __future__ import annotations

import base64
import http.client
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from .._typing import NamedTuple
from ..errors import CheckpointError

TRIES, WAIT = 6, 0.2  # requests, and seconds before the second of them; each wait is twice the one before
CONNECT, ANSWER = 10.0, 600.0  # seconds of patience
IDLE = 4  # connections to a server that are kept
MOST = 64 << 20  # bytes of an answer
_AGAIN = {408, 429, 500, 502, 503, 504}

Headers = Mapping[str, str] | Callable[[], Mapping[str, str]]


class Answer(NamedTuple):
    """A status, the headers by their names in small letters, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes


_idle: dict[tuple[str, str, str], list[http.client.HTTPConnection]] = {}


def ask(method: str, url: str, label: str, *, body: bytes | memoryview | None = None, headers: Headers | None = None) -> Answer:
    """The server's answer, whatever its status. CheckpointError where there is none: `label` is what the message names.

    `headers` may be made for each request: a signature holds its time.
    """
    answer: Answer | None = None
    for k in range(TRIES):
        if k:
            time.sleep(WAIT * 2 ** (k - 1) * (1 + random.random()))
        try:
            answer = _once(method, urlsplit(url), body, dict(headers() if callable(headers) else headers or {}))
            if answer.status not in _AGAIN:
                return answer
        except (OSError, http.client.HTTPException):
            answer = None
    if answer is None:
        raise CheckpointError("its server cannot be reached", path=label, hint="check the address, the network and the proxy settings")
    return answer


def _once(method: str, url: SplitResult, body: bytes | memoryview | None, headers: dict[str, str]) -> Answer:
    """One request. A connection that was kept and is of no use any more costs another one."""
    proxy = "" if proxy_bypass(url.hostname or "") else getproxies().get(url.scheme, "")
    key = url.scheme, url.netloc, proxy
    place = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
    if proxy and url.scheme == "http":
        place = f"http://{url.netloc}{place}"
        headers |= _authorized(urlsplit(proxy))
    while True:
        kept = _idle.get(key, [])
        try:
            connection, old = kept.pop(), True
        except IndexError:
            connection, old = _connected(url, proxy), False
        try:
            answer, again = _asked(connection, method, place, body, headers)
        except (OSError, http.client.HTTPException):
            connection.close()
            if old:
                continue
            raise
        if again and len(kept) < IDLE:
            _idle.setdefault(key, []).append(connection)
        else:
            connection.close()
        return answer


def _connected(url: SplitResult, proxy: str) -> http.client.HTTPConnection:
    """A new connection to the server, or to the proxy before it."""
    at = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else url
    of = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = of(at.hostname or "", at.port, timeout=CONNECT)
    if proxy and url.scheme == "https":
        connection.set_tunnel(url.hostname or "", url.port or 443, _authorized(at))
    connection.connect()
    connection.sock.settimeout(ANSWER)
    return connection


def _authorized(proxy: SplitResult) -> dict[str, str]:
    """The header by which a proxy knows who asks, of its address."""
    if not proxy.username:
        return {}
    said = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(said.encode()).decode()}


def _asked(
    connection: http.client.HTTPConnection, method: str, place: str, body: bytes | memoryview | None, headers: Mapping[str, str]
) -> tuple[Answer, bool]:
    """The answer, and whether the connection is good for another request."""
    whole = True
    try:
        connection.request(method, place, body, dict(headers))
    except (BrokenPipeError, ConnectionResetError):
        whole = False  # it may have answered before it had all
    got = connection.getresponse()
    data = got.read(MOST)
    if got.length:  # it was cut, or is longer than anything that is asked for
        raise http.client.IncompleteRead(data)
    return Answer(got.status, {n.lower(): v for n, v in got.getheaders()}, data), whole and not got.will_close and got.isclosed()


def close() -> None:
    """Let the connections go that are kept."""
    while _idle:
        for connection in _idle.popitem()[1]:
            with suppress(OSError):
                connection.close()
