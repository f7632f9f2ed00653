"""Objects of S3 written in parts, by any number of machines, through boto3: obstore has no parts of its own in Python.

Policy: each part goes out with its CRC32C, which the store holds it against; it is there for readers when it is committed and not before.
Which parts there are is the store's word, never a note's.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import CheckpointError, UsageError, with_extra
from ..support import crc32c
from .interface import ABSENT, Uploads
from .said import CREDENTIALS, ExistsError

_clients: dict[str, Any] = {}


def client(root: str) -> Any:
    """A client for S3, made once. Raises UsageError where boto3 is not installed."""
    found = _clients.get(root)
    if found is None:
        try:
            import boto3
            from botocore import UNSIGNED
            from botocore.config import Config
        except ImportError:
            message = "writing objects in parts needs boto3, which is not installed"
            raise UsageError(message, path=root, hint=with_extra("remote")) from None
        env = os.environ
        endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or env.get("AWS_ENDPOINT")
        unsigned = {"signature_version": UNSIGNED} if env.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true") else {}
        config = Config(
            retries={"max_attempts": 5, "mode": "standard"}, s3={"addressing_style": "path"} if endpoint else {},
            request_checksum_calculation="when_required", response_checksum_validation="when_required",
            connect_timeout=10, read_timeout=600, max_pool_connections=32, **unsigned,
        )  # fmt: skip
        region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
        session = boto3.session.Session()
        found = _clients[root] = session.client(
            "s3", endpoint_url=endpoint, region_name=region or session.region_name or "us-east-1", config=config
        )
    return found


def _refused(e: Exception, label: str) -> CheckpointError:
    """What to raise for what boto3 raised; KeyError for an upload that there is no more."""
    answer = getattr(e, "response", None)
    code = str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""
    if code == "NoSuchUpload":
        raise KeyError(label) from None
    if code == "NoSuchBucket":
        return CheckpointError("there is no such bucket", path=label, hint="check the name, the region and the endpoint")
    if code in ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403") or "Credentials" in type(e).__name__:
        shown = f" ({code})" if code.isalnum() else ""
        return CheckpointError(f"may not be written: the store refuses{shown}", path=label, hint=CREDENTIALS["s3"])
    if code in ("PreconditionFailed", "ConditionalRequestConflict"):
        return ExistsError("is there, and is not what it was", path=label, hint="somebody else has written it meanwhile")
    if code == "EntityTooSmall":
        return CheckpointError("the store takes no parts as small as these", path=label, hint="a larger --part-size")
    if "Connect" in type(e).__name__ or "Timeout" in type(e).__name__:
        return CheckpointError("its server cannot be reached", path=label, hint="check the address, the network and the proxy settings")
    return CheckpointError(f"cannot be written{f' ({code})' if code.isalnum() else ''}", path=label, hint="see the store's own log")


class S3Sink:
    """One object of S3, written in parts."""

    def __init__(self, root: str, name: str, changed: Callable[[str], None]) -> None:
        self.name, self._changed = name, changed
        self._label = f"{root}/{name}"
        self._bucket = root.partition("://")[2]
        self._client = client(root)
        self._sums: dict[int, str | None] = {}  # of the parts that were listed

    def _do(self, call: str, **words: Any) -> Any:
        try:
            return getattr(self._client, call)(Bucket=self._bucket, Key=self.name, **words)
        except Exception as e:
            raise _refused(e, self._label) from None

    def begin(self) -> dict[str, str]:
        """Start an upload."""
        return {"id": self._do("create_multipart_upload", ChecksumAlgorithm="CRC32C")["UploadId"]}

    def part(self, upload: Mapping[str, str], number: int, data: bytes | memoryview) -> str:
        """Store one part; its tag. CheckpointError where what arrived has another checksum."""
        sum_ = _crc32c(data)
        answer = self._do("upload_part", UploadId=upload["id"], PartNumber=number, Body=_body(data), ChecksumCRC32C=sum_)
        kept = answer.get("ChecksumCRC32C")
        if kept and kept != sum_:
            raise CheckpointError(f"part {number} did not arrive as it was sent", path=self._label, hint="try again")
        return str(answer["ETag"])

    def parts(self, upload: Mapping[str, str]) -> dict[int, tuple[str, int]]:
        """The parts that are there: number -> (tag, bytes). KeyError where there is no such upload."""
        out: dict[int, tuple[str, int]] = {}
        words: dict[str, Any] = {}
        while True:
            answer = self._do("list_parts", UploadId=upload["id"], **words)
            for p in answer.get("Parts", []):
                out[p["PartNumber"]] = p["ETag"], p["Size"]
                self._sums[p["PartNumber"]] = p.get("ChecksumCRC32C")
            if not answer.get("IsTruncated"):
                return out
            words = {"PartNumberMarker": answer["NextPartNumberMarker"]}

    def commit(self, upload: Mapping[str, str], tags: Mapping[int, str], *, only_if: str | None = None) -> str:
        """Make the object of its parts; its tag. KeyError where there is no such upload. Raises ExistsError."""
        there = self.parts(upload)
        lost = [n for n, tag in tags.items() if there.get(n, ("", 0))[0] != tag]
        if lost:
            raise CheckpointError(f"part {lost[0]} is not there as it was written", path=self._label, hint="begin again")
        parts = []
        for n in sorted(tags):
            one: dict[str, object] = {"PartNumber": n, "ETag": tags[n]}
            if self._sums.get(n):
                one["ChecksumCRC32C"] = self._sums[n]
            parts.append(one)
        condition = {} if only_if is None else {"IfNoneMatch": "*"} if only_if == ABSENT else {"IfMatch": only_if}
        answer = self._do("complete_multipart_upload", UploadId=upload["id"], MultipartUpload={"Parts": parts}, **condition)
        self._changed(self.name)
        return str(answer["ETag"])

    def abort(self, upload: Mapping[str, str]) -> None:
        """Throw the parts away."""
        try:
            self._do("abort_multipart_upload", UploadId=upload["id"])
        except KeyError:
            return


def uploads(root: str, prefix: str) -> Uploads:
    """(name, upload) of what was begun below `prefix` and neither committed nor aborted."""
    bucket = root.partition("://")[2]
    out: Uploads = []
    words: dict[str, str] = {}
    while True:
        try:
            answer = client(root).list_multipart_uploads(Bucket=bucket, Prefix=prefix, **words)
        except Exception as e:
            raise _refused(e, f"{root}/{prefix}") from None
        out += [(u["Key"], {"id": u["UploadId"]}) for u in answer.get("Uploads", [])]
        if not answer.get("IsTruncated"):
            return out
        words = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}


def _crc32c(data: bytes | memoryview) -> str:
    return base64.b64encode(crc32c.function()(memoryview(data), 0).to_bytes(4, "big")).decode()


def _body(data: bytes | memoryview) -> bytes | bytearray:
    """What boto3 takes: bytes, or a bytearray, which it does not copy again."""
    return data if isinstance(data, bytes) else bytearray(data)
