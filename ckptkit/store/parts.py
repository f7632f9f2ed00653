"""Objects of S3 written in parts, by any number of machines, by S3's own requests: obstore has no parts of its own in Python.

Policy: each part goes out with its CRC32C, which the store holds it against; it is there for readers when it is committed and not before.
Google's store is spoken to in the same words where there are HMAC keys for it (its XML API; parts go out with their MD5 there). Which
parts there are is the store's word, never a note's. Source: Amazon S3's API reference (CreateMultipartUpload and those beside it).
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
import time
from collections.abc import Iterator, Mapping
from urllib.parse import unquote_plus

from ..errors import CheckpointError, UnsupportedError
from ..support import crc32c
from . import plain_http
from .begun import Objects
from .interface import ABSENT, Uploads
from .plain_http import Answer
from .said import not_a_store, refused_code
from .signing import UNSIGNED, is_true, keys_of, name_in, place_of, query_of, signed

_EMPTY = hashlib.sha256(b"").hexdigest()
_NO_UPLOAD = "NoSuchUpload"
_AGAIN = {"InternalError", "SlowDown", "ServiceUnavailable", "OperationAborted"}  # of an answer that began well


def google_keys() -> bool:
    """Whether there are HMAC keys for Google's store, by which it is spoken to as S3 (the names are GDAL's)."""
    return bool(os.environ.get("GS_ACCESS_KEY_ID") and os.environ.get("GS_SECRET_ACCESS_KEY"))


def ask(
    root: str, method: str, name: str, words: Mapping[str, str], *, label: str, body: bytes | memoryview | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """The answer of a bucket to a request about an object, or (no name) about itself. CheckpointError where it refuses, KeyError where
    there is no such upload."""
    place = place_of(root)
    url = f"{place.url}/{name_in(name)}" if name else place.url
    digest = UNSIGNED
    if not body:
        digest = _EMPTY
    elif not url.startswith("https://"):
        digest = hashlib.sha256(body).hexdigest()
    about = dict(headers or {})
    if os.environ.get("AWS_REQUEST_PAYER", "").lower() in ("requester", "1", "true") and not root.startswith("gs://"):
        about["x-amz-request-payer"] = "requester"
    url = f"{url}?{query_of([*words.items()])}"
    for k in range(plain_http.TRIES):
        answer = plain_http.ask(
            method, url, label, body=body, headers=lambda: signed(method, url, about, keys_of(root), place.region, digest)
        )
        code = _field("Code", _text(answer)) if answer.status >= 300 or b"<Error>" in answer.body[:400] else ""
        if answer.status < 300 and code in _AGAIN and k + 1 < plain_http.TRIES:  # of an answer that is begun before its end is known
            time.sleep(plain_http.WAIT * 2**k)
            continue
        break
    if answer.status < 300 and not code:
        return answer
    if code == _NO_UPLOAD:
        raise KeyError(label)
    raise refused_code(code, answer.status, label, root.partition("://")[0])


def _text(answer: Answer) -> str:
    return answer.body.decode("utf-8", "replace")


def _field(name: str, text: str) -> str:
    """What the first element of a name holds; nothing where there is none."""
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return html.unescape(found[1]) if found else ""


def _elements(name: str, text: str) -> Iterator[str]:
    """What each element of a name holds."""
    return (m[1] for m in re.finditer(rf"<{name}>(.*?)</{name}>", text, re.DOTALL))


def _kept() -> dict[str, str]:
    """The headers that say how the store is to keep an object, as for the stores' library. Raises UnsupportedError."""
    env = os.environ
    kind = env.get("AWS_SERVER_SIDE_ENCRYPTION", "")
    if kind == "sse-c" or env.get("AWS_SSE_CUSTOMER_KEY_BASE64"):
        raise UnsupportedError("objects under a customer's key (SSE-C) are not written", hint="use keys of the store's (aws:kms, AES256)")
    out = {"x-amz-server-side-encryption": kind} if kind else {}
    if kind and env.get("AWS_SSE_KMS_KEY_ID"):
        out["x-amz-server-side-encryption-aws-kms-key-id"] = env["AWS_SSE_KMS_KEY_ID"]
    if kind and is_true("AWS_SSE_BUCKET_KEY_ENABLED"):
        out["x-amz-server-side-encryption-bucket-key-enabled"] = "true"
    return out


class S3Sink:
    """One object of S3, written in parts."""

    def __init__(self, tree: Objects, name: str) -> None:
        self.name, self._tree = name, tree
        self._label = tree.label(name)
        self._google = tree.scheme == "gs"

    def _ask(
        self, method: str, words: Mapping[str, str], body: bytes | memoryview | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        return ask(self._tree.root, method, self.name, words, label=self._label, body=body, headers=headers)

    def begin(self) -> dict[str, str]:
        """Start an upload."""
        about = {} if self._google else {"x-amz-checksum-algorithm": "CRC32C", "x-amz-checksum-type": "FULL_OBJECT", **_kept()}
        about["content-type"] = "application/octet-stream"
        found = _field("UploadId", _text(self._ask("POST", {"uploads": ""}, headers=about)))
        if not found:
            raise not_a_store(self._label)
        return {"id": found}

    def part(self, upload: Mapping[str, str], number: int, data: bytes | memoryview) -> str:
        """Store one part; its tag. CheckpointError where what arrived has another checksum."""
        if self._google:  # which knows no checksum of that name, and holds a part against this one
            sum_, header = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode(), "content-md5"
        else:
            sum_, header = base64.b64encode(crc32c.function()(memoryview(data), 0).to_bytes(4, "big")).decode(), "x-amz-checksum-crc32c"
        answer = self._ask("PUT", {"partNumber": str(number), "uploadId": upload["id"]}, data, {header: sum_})
        if answer.headers.get("x-amz-checksum-crc32c", sum_) != sum_:
            raise CheckpointError(f"part {number} did not arrive as it was sent", path=self._label, hint="try again")
        if not answer.headers.get("etag"):
            raise not_a_store(self._label)
        return answer.headers["etag"]

    def parts(self, upload: Mapping[str, str]) -> dict[int, tuple[str, int]]:
        """The parts that are there: number -> (tag, bytes). KeyError where there is no such upload."""
        out: dict[int, tuple[str, int]] = {}
        words = {"uploadId": upload["id"]}
        while True:
            text = _text(self._ask("GET", words))
            if not _field("UploadId", text):
                raise not_a_store(self._label)
            for p in _elements("Part", text):
                out[int(_field("PartNumber", p))] = _field("ETag", p), int(_field("Size", p))
            if _field("IsTruncated", text) != "true":
                return out
            words["part-number-marker"] = _field("NextPartNumberMarker", text)

    def commit(self, upload: Mapping[str, str], tags: Mapping[int, str], *, only_if: str | None = None) -> str:
        """Make the object of its parts; its tag. KeyError where there is no such upload. Raises ExistsError."""
        there = self.parts(upload)
        lost = [n for n, tag in tags.items() if there.get(n, ("", 0))[0] != tag]
        if lost:
            raise CheckpointError(f"part {lost[0]} is not there as it was written", path=self._label, hint="begin again")
        if self._google and only_if is not None:  # its Complete takes no condition: asked for before
            self._tree.fresh()
            found = self._tree.entry(self.name)
            if (found is not None) if only_if == ABSENT else (found is None or found.tag != only_if):
                raise refused_code("PreconditionFailed", 412, self._label, "gs")
            only_if = None
        about = {} if only_if is None else {"if-none-match": "*"} if only_if == ABSENT else {"if-match": only_if}
        lines = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{html.escape(tags[n])}</ETag></Part>" for n in sorted(tags))
        space = "" if self._google else ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
        body = f"<CompleteMultipartUpload{space}>{lines}</CompleteMultipartUpload>".encode()
        text = _text(self._ask("POST", {"uploadId": upload["id"]}, body, {**about, "content-type": "application/xml"}))
        tag = _field("ETag", text)
        if not tag:
            raise not_a_store(self._label)
        self._tree.changed(self.name)
        return tag

    def abort(self, upload: Mapping[str, str]) -> None:
        """Throw the parts away."""
        try:
            self._ask("DELETE", {"uploadId": upload["id"]})
        except KeyError:
            return


def uploads(root: str, prefix: str) -> Uploads:
    """(name, upload) of what was begun below `prefix` and neither committed nor aborted."""
    label = f"{root}/{prefix}"
    out: Uploads = []
    words = {"uploads": "", "prefix": prefix, "encoding-type": "url"}
    while True:
        text = _text(ask(root, "GET", "", words, label=label))
        if "<ListMultipartUploadsResult" not in text:
            raise not_a_store(label)
        encoded = _field("EncodingType", text) == "url"
        for u in _elements("Upload", text):
            key = _field("Key", u)
            out.append((unquote_plus(key) if encoded else key, {"id": _field("UploadId", u)}))
        if _field("IsTruncated", text) != "true":
            return out
        marker = _field("NextKeyMarker", text)
        words["key-marker"] = unquote_plus(marker) if encoded else marker
        words["upload-id-marker"] = _field("NextUploadIdMarker", text)
