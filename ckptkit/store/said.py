"""What stores answer when they refuse, as one line with a hint. Nothing of an answer is shown but its code: it may hold anything."""

from __future__ import annotations

import re

from ..errors import CheckpointError, CorruptError, NotFoundError, UnsupportedError, UsageError

CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the machine's role; AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, GS_ACCESS_KEY_ID with GS_SECRET_ACCESS_KEY for parts, or GOOGLE_SKIP_SIGNATURE=true",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN; AZURE_SKIP_SIGNATURE=true if it is public",
    "hf": "HF_TOKEN, or `hf auth login`; a gated repository has to be accepted at its page first",
}
_REPLACED = "was replaced while it was read"


class TooSmallError(CheckpointError):
    """Parts that the store does not take: what was begun with them cannot be finished."""


class ExistsError(UsageError):
    """What was to be written only where there is nothing, or only over what was known, and something else is there."""


def refused(e: Exception, label: str, *, writing: bool = False) -> CheckpointError:
    """The error to raise for what the store's library raised."""
    scheme = label.partition("://")[0]
    kind, text = type(e).__name__, str(e)
    told = text.partition("\n\nDebug source")[0].replace("retry_timeout", "")  # settings of the library
    do = "written" if writing else "read"
    if kind == "PreconditionError" and not writing:
        return replaced(label)
    if writing and kind in ("AlreadyExistsError", "PreconditionError"):
        return ExistsError("is there, and is not what it was", path=label, hint="somebody else has written it meanwhile")
    if kind in ("NotFoundError", "FileNotFoundError") or "NoSuchBucket" in text or "404 Not Found" in text:
        if "NoSuchBucket" in text or "ContainerNotFound" in text:
            return NotFoundError("there is no such bucket", path=label, hint="check the name, the region and the endpoint")
        return NotFoundError("there is no such object", path=label, hint="check the address")
    credentials = CREDENTIALS.get(scheme, "")
    if any(words in text for words in _SKEWED_TEXTS):
        return CheckpointError(_CLOCK, path=label, hint=_CLOCK_HINT)
    if writing and ("NotImplemented" in text or "501 Not Implemented" in text or kind == "NotImplementedError"):
        return unconditional(label)
    if "169.254.169.254" in text or "metadata.google" in text or "MissingCredentials" in text or "MissingAccount" in text:
        return CheckpointError("no credentials were found", path=label, hint=credentials)
    if kind in ("PermissionDeniedError", "UnauthenticatedError") or re.search(r"\b40[13] (Forbidden|Unauthorized)", text):
        code = _code(text)
        return CheckpointError(f"may not be {do}: the store refuses{code}", path=label, hint=credentials or "see who may read it")
    if without_ranges(e):
        return CheckpointError("its server gives no parts of a file (HTTP ranges)", path=label, hint="download it, and name the file")
    if re.search(f"(?i:redirect)|status code: 30[12378]\\b|<Code>({'|'.join(_ELSEWHERE)})</Code>", told):
        return _elsewhere(label)
    if "error sending request" in text or "error trying to connect" in text or "dns error" in text or "builder error" in text:
        return CheckpointError("its server cannot be reached", path=label, hint="check the address, the network and the proxy settings")
    if "invalid list response" in told:
        return not_a_store(label) if "missing field" in told else _cut(label)
    if re.search("header (missing from|not present in)", told, re.IGNORECASE):  # what every object has, and a page has not
        return not_a_store(label)
    code = _code(text).strip(" ()")
    if code in _FULL or code in _BUSY:
        return _later(code, label, do)
    if "timed out" in told or "timeout" in told.lower():
        return CheckpointError("its server does not answer in time", path=label, hint="try again later")
    if "decoding response body" in text or "error reading a body" in text:
        return _cut(label)
    return CheckpointError(f"cannot be {do}{_code(text)}", path=label, hint="see the store's own log, or try again later")


_ELSEWHERE = ("PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
def unopened(e: Exception, root: str) -> CheckpointError:
    """The error to raise for what the library raised before anything was asked for: it does not like what the environment says."""
    error = refused(e, root)
    if error.message != "cannot be read":
        return error
    scheme = root.partition("://")[0]
    names = {"s3": "AWS_*", "gs": "GOOGLE_*", "az": "AZURE_*"}.get(scheme, "proxies")
    return UsageError("what the environment says of this store does not fit together", path=root, hint=f"see the variables ({names})")


def without_ranges(e: Exception) -> bool:
    """Whether a server that was asked for a part of an object has given another answer."""
    text = str(e)
    return type(e).__name__ == "NotSupportedError" or ("Range" in text and "not supported" in text) or "non-partial response" in text


# of stores and proxies: S3, Azure, Ceph, MinIO; statuses where there is no code
_FULL = {"507", "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "AccountLimitExceeded"}
_BUSY = {"429", "503", "SlowDown", "ServiceUnavailable", "TooManyRequests", "ServerBusy", "OperationTimedOut", "XMinioServerNotInitialized"}
_SKEWED = {"RequestTimeTooSkewed", "RequestExpired"}
# and what Azure says of a shared access signature and of a key, and Google of an account's
_SKEWED_TEXTS = (*_SKEWED, "not valid in the specified time frame", "Request date header too old", "Check your iat and exp values")
_NOT_ALLOWED = {
    "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403", "401", "AuthenticationFailed", "AuthorizationFailure",
    "AuthorizationPermissionMismatch", "InvalidAuthenticationInfo", "NoAuthenticationInformation",
}  # fmt: skip
_CLOCK = "the store's clock and this machine's are too far apart"
_CLOCK_HINT = "set this machine's clock: a request is signed with its time"


def refused_code(code: str, status: int, label: str, scheme: str) -> CheckpointError:
    """The error to raise for the code with which a store refuses to write."""
    code = code or str(status)
    shown = f" ({code})" if code.isalnum() and code != "200" else ""
    if code in _NO_BUCKET:
        return NotFoundError("there is no such bucket", path=label, hint="check the name, the region and the endpoint")
    if code in _SKEWED:
        return CheckpointError(_CLOCK, path=label, hint=_CLOCK_HINT)
    if code in _ELSEWHERE or status in (301, 302, 303, 307, 308):
        return _elsewhere(label)
    if code in _NOT_ALLOWED or status in (401, 403):
        return CheckpointError(f"may not be written: the store refuses{shown}", path=label, hint=CREDENTIALS.get(scheme, ""))
    if code in ("PreconditionFailed", "ConditionalRequestConflict", "BlobAlreadyExists", "ConditionNotMet"):
        return ExistsError("is there, and is not what it was", path=label, hint="somebody else has written it meanwhile")
    if code == "EntityTooSmall":
        return TooSmallError("the store takes no parts as small as these", path=label, hint="a larger --part-size")
    if code == "NotImplemented" or status == 501:
        return unconditional(label)
    if code in _FULL or code in _BUSY or str(status) in _FULL | _BUSY:
        return _later(code if code in _FULL else str(status) if str(status) in _FULL else code, label, "written")
    return CheckpointError(f"cannot be written{shown}", path=label, hint="see the store's own log, or try again later")


def _later(code: str, label: str, do: str) -> CheckpointError:
    """The error of a store that is full or busy."""
    if code in _FULL:
        hint = "make room, or write to another place; a conversion that is begun again goes on where it stopped"
        return CheckpointError(f"cannot be {do}: the store has no room ({code})", path=label, hint=hint)
    hint = "try again later, with fewer --jobs; a conversion goes on where it stopped"
    return CheckpointError(f"cannot be {do}: the store is busy ({code})", path=label, hint=hint)


def _cut(label: str) -> CorruptError:
    return CorruptError("the connection was cut before all bytes had come", path=label, hint="try again")


def _elsewhere(label: str) -> CheckpointError:
    if not label.startswith("s3://"):
        return CheckpointError("its server sends to another place", path=label, hint="check the address and the endpoint")
    return CheckpointError("lies in another region", path=label, hint="set AWS_REGION to the bucket's region")


def not_a_store(label: str) -> CheckpointError:
    """The error of a server that gives a page for all that is asked."""
    message = "its server answers, but not as a store does"
    return CheckpointError(message, path=label, hint="is a proxy or a login between it and here?")


def unconditional(label: str) -> CheckpointError:
    """The error of a store by which two writers could not be told from each other."""
    message = "the store takes no conditions on what is written (If-None-Match)"
    return UnsupportedError(message, path=label, hint="convert into a folder and copy that, or use a store that does")


def replaced(label: str) -> CheckpointError:
    """The error of an object that is no longer the one that was opened."""
    return CheckpointError(_REPLACED, path=label, hint="begin again, once nothing writes to it")


def _code(text: str) -> str:
    """The code of an answer (a name without blanks, or a status), for a message."""
    found = re.search(r"<Code>([A-Za-z0-9]{1,60})</Code>", text) or re.search(r"\b([45]\d\d) [A-Z][a-z]+", text)
    return f" ({found[1]})" if found else ""
