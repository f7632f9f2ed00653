"""Requests to S3 as AWS asks for them to be signed (Signature Version 4), with credentials by AWS' usual ways.

Policy: keys of the environment need no library; profiles and roles are boto3's to know. Over https the body is not part of the signature:
a part has a checksum, which is. No key is ever part of a message.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from urllib.parse import quote, urlsplit

from .._typing import Any, NamedTuple
from ..errors import CheckpointError, UsageError, with_extra
from .said import CREDENTIALS

GOOGLE = "https://storage.googleapis.com"
UNSIGNED = "UNSIGNED-PAYLOAD"
_TRUE = ("1", "true", "yes", "on")


class Keys(NamedTuple):
    """What a request is signed with."""

    id: str
    secret: str
    token: str = ""


class Place(NamedTuple):
    """Where a bucket is asked for: the address that names of objects follow, and the region that is signed for."""

    url: str
    region: str


def place_of(root: str) -> Place:
    """Where the bucket of a tree is: as the environment says, as the stores' library has it."""
    scheme, _, bucket = root.partition("://")
    if scheme == "gs":
        return Place(f"{GOOGLE}/{bucket}", "auto")
    env = os.environ
    profile = told_by_profile()
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or profile.get("region") or "us-east-1"
    ends = (env.get("AWS_ENDPOINT_URL_S3"), env.get("AWS_ENDPOINT_URL"), env.get("AWS_ENDPOINT"), profile.get("endpoint_url"))
    end = next((e for e in ends if e), f"https://s3.{region}.amazonaws.com").rstrip("/")
    if is_true("AWS_VIRTUAL_HOSTED_STYLE_REQUEST"):  # with an endpoint of its own that has the bucket in it
        return Place(end if any(ends) else f"https://{bucket}.s3.{region}.amazonaws.com", region)
    return Place(f"{end}/{bucket}", region)


def is_true(name: str) -> bool:
    """Whether a variable of the environment switches something on."""
    return os.environ.get(name, "").lower() in _TRUE


def by_environment() -> bool:
    """Whether the environment itself says who asks, or that nobody does."""
    names = (
        "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    )  # fmt: skip
    return any(os.environ.get(n) for n in names) or is_true("AWS_SKIP_SIGNATURE")


def has_profiles() -> bool:
    """Whether this user has files of AWS' with credentials, or says which profile counts."""
    env = os.environ
    files = (env.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials", env.get("AWS_CONFIG_FILE") or "~/.aws/config")
    return bool(env.get("AWS_PROFILE")) or any(os.path.exists(os.path.expanduser(f)) for f in files)


_lock = threading.Lock()
_session: list[Any] = []  # boto's, made when it is first needed
_found: list[Any] = []  # the credentials that it found


def forget() -> None:
    """What profiles say is asked for anew."""
    with _lock:
        _session.clear()
        _found.clear()


def told_by_profile() -> Mapping[str, str]:
    """What the profile that counts says (region, endpoint_url); nothing where the environment says who asks."""
    if by_environment() or not has_profiles():
        return {}
    try:
        with _lock:
            said: Any = _boto().get_scoped_config()
    except (ImportError, CheckpointError):
        return {}
    except Exception as e:
        raise _of_profile(e) from None
    return {k: v for k, v in said.items() if isinstance(v, str)}


def _boto() -> Any:
    """boto's session. ImportError without it."""
    if not _session:
        import botocore.session

        _session.append(botocore.session.Session())
    return _session[0]


def _of_profile(e: Exception) -> CheckpointError:
    """The error of files or a profile that boto cannot use: what it says has no key in it, but may have lines."""
    kind = type(e).__name__
    if kind == "ProfileNotFound":
        return CheckpointError("there is no such profile", path=os.environ.get("AWS_PROFILE", "AWS"), hint="see AWS_PROFILE")
    return CheckpointError(f"the profile gives no credentials ({kind})", path=os.environ.get("AWS_PROFILE", "AWS"), hint=CREDENTIALS["s3"])


def keys_of(root: str) -> Keys | None:
    """Who asks, now (what a role has lent ends sometime); None: nobody, requests are not signed. Raises CheckpointError, UsageError."""
    env = os.environ
    if root.startswith("gs://"):
        return Keys(env.get("GS_ACCESS_KEY_ID", ""), env.get("GS_SECRET_ACCESS_KEY", ""))
    if is_true("AWS_SKIP_SIGNATURE"):
        return None
    if env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
        return Keys(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN") or env.get("AWS_TOKEN") or "")
    try:
        with _lock:
            if not _found:
                _found.append(_boto().get_credentials())
            got = _found[0].get_frozen_credentials() if _found[0] is not None else None
    except ImportError:
        message = "profiles and roles of AWS' need boto3, which is not installed"
        raise UsageError(message, path=root, hint=f"{with_extra('remote')}; or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from None
    except Exception as e:
        raise _of_profile(e) from None
    if got is None or not got.access_key:
        raise CheckpointError("no credentials were found", path=root, hint=CREDENTIALS["s3"])
    return Keys(got.access_key, got.secret_key, got.token or "")


def name_in(name: str) -> str:
    """An object's name in an address, as it is signed."""
    return quote(name, safe="/~")


def query_of(words: Sequence[tuple[str, str]]) -> str:
    """A query, as it is signed: in the order of its words."""
    return "&".join(f"{k}={v}" for k, v in sorted((quote(k, safe="~"), quote(v, safe="~")) for k, v in words))


def signed(
    method: str, url: str, headers: Mapping[str, str], keys: Keys | None, region: str, digest: str, at: datetime | None = None
) -> dict[str, str]:
    """`headers` with those that sign a request. `digest`: the SHA-256 of its body in hexadecimal, or UNSIGNED."""
    where = urlsplit(url)
    if keys is None:
        return dict(headers)
    now = at or datetime.now(timezone.utc)
    date, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    sent = {k.lower(): " ".join(v.split()) for k, v in headers.items()}
    sent |= {"host": where.netloc, "x-amz-date": date, "x-amz-content-sha256": digest}
    if keys.token:
        sent["x-amz-security-token"] = keys.token
    names = ";".join(sorted(sent))
    lines = [method, where.path or "/", where.query, *(f"{k}:{sent[k]}" for k in sorted(sent)), "", names, digest]
    scope = f"{day}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256("\n".join(lines).encode()).hexdigest()])
    key = f"AWS4{keys.secret}".encode()
    for word in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    sent["authorization"] = f"AWS4-HMAC-SHA256 Credential={keys.id}/{scope}, SignedHeaders={names}, Signature={signature}"
    return sent
