"""Addresses of Azure's objects that are signed: for the requests that the stores' library has no call for.

Policy: by the account's key or the shared access signature that the environment gives, else as the library signs for the credentials
that it has. The library signs the escaped name, Azure verifies the name: it is asked only for names that need no escapes.
Source: "Create a service SAS" of the storage services' documentation.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from datetime import datetime, timedelta, timezone
from urllib.parse import quote, unquote, urlencode

from .._typing import Any, cast
from .begun import Objects

_VERSION = "2021-08-06"  # of what is signed
_KEYS = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY")
_TOKENS = ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY")


def address(tree: Objects, method: str, name: str, seconds: float = 600.0) -> str | None:
    """Where an object is asked for, for so long; None where these credentials give no such address. It is not to be shown."""
    account, key = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", ""), _said(_KEYS)
    token = _said(_TOKENS).lstrip("?")
    end = _said(("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")) or (f"https://{account}.blob.core.windows.net" if account else "")
    object_ = f"{tree.root.partition('://')[2]}/{tree.key(name)}"
    place = f"{end.rstrip('/')}/{quote(object_, safe='/~')}"
    if end and account and key:
        return f"{place}?{_by_key(account, key, object_, seconds)}"
    if end and "sig=" in token:
        pairs = [w.partition("=") for w in token.split("&") if w]
        return f"{place}?" + "&".join(f"{k}={quote(unquote(v), safe='~')}" for k, _, v in pairs)  # escaped or not, as the library takes it
    return _by_library(tree, method, name, seconds) if quote(name, safe="/~") == name else None


def _said(names: tuple[str, ...]) -> str:
    """What the first of some variables that is set says."""
    return next((v for n in names if (v := os.environ.get(n, ""))), "")


def _by_key(account: str, key: str, object_: str, seconds: float) -> str:
    """The query of a service SAS for one object: it may be read, written and removed. It has no beginning, which clocks might dispute."""
    until = (datetime.now(timezone.utc) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = ["racwd", "", until, f"/blob/{account}/{object_}", "", "", "", _VERSION, "b", *[""] * 7]
    digest = hmac.new(base64.b64decode(key), "\n".join(lines).encode(), hashlib.sha256).digest()
    return urlencode({"sp": lines[0], "se": until, "sv": _VERSION, "sr": "b", "sig": base64.b64encode(digest).decode()})


def _by_library(tree: Objects, method: str, name: str, seconds: float) -> str | None:
    import obstore

    try:
        url: str = obstore.sign(tree.store, cast("Any", method), tree.key(name), timedelta(seconds=seconds))
    except Exception:  # it has credentials that sign nothing
        return None
    return url if "sig=" in url else None
