"""How a store is reached: patience, addresses and credentials, by each cloud's usual ways."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from urllib.parse import urlparse

from .._typing import Any
from ..errors import UsageError
from .signing import by_environment, has_profiles, keys_of, told_by_profile

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "HF_ENDPOINT")


def options(root: str) -> dict[str, Any]:
    """How a store's library is to reach it: patience, and plain http where the endpoint says so itself."""
    ends = [os.environ.get(n, "") for n in ENDPOINTS]
    plain = root.startswith("http://") or any(e.startswith("http://") for e in ends)
    client = {"timeout": timedelta(minutes=10), "connect_timeout": timedelta(seconds=10), "allow_http": plain}
    return {"client_options": client, "retry_config": {"max_retries": 5, "retry_timeout": timedelta(seconds=120)}}


def library(root: str, words: dict[str, Any]) -> Any:
    """The library's store for a bucket or a server, by what `options` says."""
    from obstore import exceptions, store

    if not root.startswith("s3://"):
        return store.from_url(root, **words)
    env, profile = os.environ, told_by_profile()
    endpoint = env.get("AWS_ENDPOINT_URL_S3")
    if not endpoint and not (env.get("AWS_ENDPOINT_URL") or env.get("AWS_ENDPOINT")):
        endpoint = profile.get("endpoint_url")
    if endpoint:
        words["endpoint"] = endpoint
        words["client_options"]["allow_http"] |= endpoint.startswith("http://")
    if not any(env.get(n) for n in ("AWS_REGION", "AWS_DEFAULT_REGION")):
        words["region"] = profile.get("region") or "us-east-1"
    if not by_environment() and has_profiles():
        try:
            keys_of(root)
            words["credential_provider"] = Lent(root)
        except UsageError:
            pass  # without boto3 the library's own ways are tried, and say what they miss
    try:
        return store.from_url(root, **words, disable_bulk_delete=True)  # see `removing`
    except exceptions.UnknownConfigurationKeyError:  # an older library, which has none for a single object
        return store.from_url(root, **words)


class Lent:
    """What the library asks for credentials that a profile gives: for a while, then again."""

    def __init__(self, root: str) -> None:
        self.root = root

    def __call__(self) -> dict[str, Any]:
        keys = keys_of(self.root)
        assert keys is not None
        until = datetime.now(timezone.utc) + timedelta(minutes=30)
        return {"access_key_id": keys.id, "secret_access_key": keys.secret, "token": keys.token or None, "expires_at": until}


def is_r2() -> bool:
    """Whether the store is Cloudflare's, by the address that the environment gives."""
    return any((urlparse(os.environ.get(n, "")).hostname or "").endswith(".r2.cloudflarestorage.com") for n in ENDPOINTS[:3])
