"""How a store is reached: patience, addresses and credentials, by each cloud's usual ways."""

from __future__ import annotations

import os
from datetime import timedelta
from urllib.parse import urlparse

from .._typing import Any

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "HF_ENDPOINT")


def options(root: str) -> dict[str, Any]:
    """How a store's library is to reach it: patience, and plain http where the endpoint says so itself."""
    ends = [os.environ.get(n, "") for n in ENDPOINTS]
    plain = root.startswith("http://") or any(e.startswith("http://") for e in ends)
    client = {"timeout": timedelta(minutes=10), "connect_timeout": timedelta(seconds=10), "allow_http": plain}
    return {"client_options": client, "retry_config": {"max_retries": 5, "retry_timeout": timedelta(seconds=120)}}


def library(root: str, words: dict[str, Any]) -> Any:
    """The library's store for a bucket or a server, by what `options` says."""
    from obstore import store

    if not root.startswith("s3://"):
        return store.from_url(root, **words)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3")
    if endpoint:
        words["endpoint"] = endpoint
    env = os.environ
    if not any(env.get(n) for n in ("AWS_REGION", "AWS_DEFAULT_REGION")):
        words["region"] = "us-east-1"
    told = any(env.get(n) for n in (
        "AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ))  # fmt: skip
    if not told and (env.get("AWS_PROFILE") or os.path.exists(os.path.expanduser("~/.aws/credentials"))):
        try:
            from obstore.auth.boto3 import Boto3CredentialProvider

            words["credential_provider"] = Boto3CredentialProvider()
        except ImportError:
            pass  # the library's own ways are tried, and say what they miss
    return store.from_url(root, **words)


def is_r2() -> bool:
    """Whether the store is Cloudflare's, by the address that the environment gives."""
    return any((urlparse(os.environ.get(n, "")).hostname or "").endswith(".r2.cloudflarestorage.com") for n in ENDPOINTS[:3])
