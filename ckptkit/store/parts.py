"""Objects of S3 written in parts, by any number of machines, through boto3: obstore has no parts of its own in Python.

Policy: each part goes out with its CRC32C, which the store holds it against; it is there for readers when it is committed and not before.
Google's store is spoken to in the same words where there are HMAC keys for it (its XML API; parts go out with their MD5 there). Which
parts there are is the store's word, never a note's.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Mapping

from .._typing import Any
from ..errors import CheckpointError, UsageError, with_extra
from ..support import crc32c
from .begun import Objects
from .interface import ABSENT, Uploads
from .said import CREDENTIALS, not_a_store, refused_code

GOOGLE = "https://storage.googleapis.com"
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
        region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
        keys = {}
        if root.startswith("gs://"):
            endpoint, region = GOOGLE, "auto"
            keys = {"aws_access_key_id": env.get("GS_ACCESS_KEY_ID"), "aws_secret_access_key": env.get("GS_SECRET_ACCESS_KEY")}
        unsigned = {"signature_version": UNSIGNED} if not keys and env.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true") else {}
        config = Config(
            retries={"max_attempts": 5, "mode": "standard"}, s3={"addressing_style": "path"} if endpoint else {},
            request_checksum_calculation="when_required", response_checksum_validation="when_required",
            connect_timeout=10, read_timeout=600, max_pool_connections=32, **unsigned,
        )  # fmt: skip
        session = boto3.session.Session()
        found = _clients[root] = session.client(
            "s3", endpoint_url=endpoint, region_name=region or session.region_name or "us-east-1", config=config, **keys
        )
    return found


def google_keys() -> bool:
    """Whether there are HMAC keys for Google's store, by which it is spoken to as S3 (the names are GDAL's)."""
    return bool(os.environ.get("GS_ACCESS_KEY_ID") and os.environ.get("GS_SECRET_ACCESS_KEY"))


def _refused(e: Exception, label: str) -> CheckpointError:
    """What to raise for what boto3 raised; KeyError for an upload that there is no more."""
    answer = getattr(e, "response", None)
    code = str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) if isinstance(answer, dict) else 0
    if code == "NoSuchUpload":
        raise KeyError(label) from None
    scheme = label.partition("://")[0]
    if "Credentials" in type(e).__name__:
        return CheckpointError("no credentials were found", path=label, hint=CREDENTIALS[scheme])
    if "Connect" in type(e).__name__ or "Timeout" in type(e).__name__:
        return CheckpointError("its server cannot be reached", path=label, hint="check the address, the network and the proxy settings")
    return refused_code(code, status, label, scheme)


class S3Sink:
    """One object of S3, written in parts."""

    def __init__(self, tree: Objects, name: str) -> None:
        self.name, self._tree = name, tree
        self._label = tree.label(name)
        self._bucket = tree.root.partition("://")[2]
        self._client = client(tree.root)
        self._google = tree.scheme == "gs"

    def _do(self, call: str, says: str = "", **words: Any) -> Any:
        """The answer to a call, which has to say `says`: a proxy's page says nothing."""
        try:
            answer = getattr(self._client, call)(Bucket=self._bucket, Key=self.name, **words)
        except Exception as e:
            raise _refused(e, self._label) from None
        if says and not answer.get(says):
            raise not_a_store(self._label)
        return answer

    def begin(self) -> dict[str, str]:
        """Start an upload."""
        words = {} if self._google else {"ChecksumAlgorithm": "CRC32C", "ChecksumType": "FULL_OBJECT"}  # of the parts' own none is kept
        return {"id": self._do("create_multipart_upload", "UploadId", **words)["UploadId"]}

    def part(self, upload: Mapping[str, str], number: int, data: bytes | memoryview) -> str:
        """Store one part; its tag. CheckpointError where what arrived has another checksum."""
        if self._google:  # which knows no checksum of that name, and holds a part against this one
            md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
            answer = self._do("upload_part", "ETag", UploadId=upload["id"], PartNumber=number, Body=_body(data), ContentMD5=md5)
            return str(answer["ETag"])
        sum_ = _crc32c(data)
        answer = self._do("upload_part", "ETag", UploadId=upload["id"], PartNumber=number, Body=_body(data), ChecksumCRC32C=sum_)
        kept = answer.get("ChecksumCRC32C")
        if kept and kept != sum_:
            raise CheckpointError(f"part {number} did not arrive as it was sent", path=self._label, hint="try again")
        return str(answer["ETag"])

    def parts(self, upload: Mapping[str, str]) -> dict[int, tuple[str, int]]:
        """The parts that are there: number -> (tag, bytes). KeyError where there is no such upload."""
        out: dict[int, tuple[str, int]] = {}
        words: dict[str, Any] = {}
        while True:
            answer = self._do("list_parts", "UploadId", UploadId=upload["id"], **words)
            for p in answer.get("Parts", []):
                out[p["PartNumber"]] = p["ETag"], p["Size"]
            if not answer.get("IsTruncated"):
                return out
            words = {"PartNumberMarker": answer["NextPartNumberMarker"]}

    def commit(self, upload: Mapping[str, str], tags: Mapping[int, str], *, only_if: str | None = None) -> str:
        """Make the object of its parts; its tag. KeyError where there is no such upload. Raises ExistsError."""
        there = self.parts(upload)
        lost = [n for n, tag in tags.items() if there.get(n, ("", 0))[0] != tag]
        if lost:
            raise CheckpointError(f"part {lost[0]} is not there as it was written", path=self._label, hint="begin again")
        parts = [{"PartNumber": n, "ETag": tags[n]} for n in sorted(tags)]
        if self._google and only_if is not None:  # its Complete takes no condition: asked for before
            self._tree.fresh()
            found = self._tree.entry(self.name)
            if (found is not None) if only_if == ABSENT else (found is None or found.tag != only_if):
                raise refused_code("PreconditionFailed", 412, self._label, "gs")
            only_if = None
        condition = {} if only_if is None else {"IfNoneMatch": "*"} if only_if == ABSENT else {"IfMatch": only_if}
        answer = self._do("complete_multipart_upload", "ETag", UploadId=upload["id"], MultipartUpload={"Parts": parts}, **condition)
        self._tree.changed(self.name)
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


def _body(data: bytes | memoryview) -> Any:
    """What boto3 takes: bytes, a bytearray as a whole, which it sends at once and does not copy, or a file, which it reads in pieces."""
    if isinstance(data, memoryview) and isinstance(data.obj, bytearray) and len(data.obj) == data.nbytes:
        return data.obj
    return data if isinstance(data, bytes) else _Sent(data)


class _Sent(io.RawIOBase):
    """Memory as a file that is read."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is: what is sent again is read again."""
        return True

    def __len__(self) -> int:
        return self._data.nbytes

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self)}[whence]
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes."""
        n = len(self) - self._at if size is None or size < 0 else size
        out = bytes(self._data[self._at : self._at + n])
        self._at += len(out)
        return out
