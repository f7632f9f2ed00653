"""Lock files: what a checkpoint was when it was accepted, and what has changed since.

A lock is JSON: the model (architecture, counts, configuration, canonical digest, each parameter's dtype, shape and digest) and the files
(size and SHA-256 each). Where only the files differ, the weights were converted; where parameters differ, they changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing

from .. import store
from .._typing import TYPE_CHECKING
from ..comparison.left_out import START, left_out_tensors, other_words
from ..configuration.without_effect import no_effect
from ..errors import CheckpointError, printable
from ..findings import Finding
from ..graph.examine import Subject
from ..graph.reading import AS_FOUND, Reading
from ..graph.recognition import Recognition
from ..support.name_text import collapse, natural
from ..support.progress import Watch, phase
from .digest import PREFIX, Digest, canonical_digest

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..graph.reading import Words

LOCK_VERSION = 1


def file_digest(path: str, watch: Callable[[int], None] | None = None) -> str:
    """The SHA-256 of a file or an object."""
    from hashlib import sha256

    state, buffer, at = sha256(), memoryview(bytearray(1 << 20)), 0
    with closing(store.open_blob(path)) as blob:
        while n := blob.readinto(buffer, at):
            state.update(buffer[:n])
            at += n
            if watch is not None:
                watch(n)
    return state.hexdigest()


def files_of(subject: Subject) -> dict[str, str]:
    """Name (relative to the checkpoint's folder) -> path of every file that holds the model, its configuration included."""
    files = [*subject.checkpoint.files]
    if subject.config is not None and not subject.config.inside:
        files.append(subject.config.source)
    folder = subject.checkpoint.folder
    return {store.relative(store.absolute(f), folder): f for f in dict.fromkeys(files)}


def lock(
    path: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], object] | None = None,
    reading: Reading = AS_FOUND,
    **words: Unpack[Words],
) -> str:
    """The text of a lock file of the checkpoint at `path`: schema, digests of every parameter and of every file.

    `reading`, or its fields as keywords (config, container, architecture, dialect, scope, part, given), overrule what would be found.
    `validate --lock` (or a policy's `lock`) says later what has changed. Raises CheckpointError.
    """
    from ..graph.examine import examine

    with examine(path, reading.but(**words)) as subject:
        return lock_text(subject, progress)


def file_digests(subject: Subject, progress: Callable[[int, int], object] | None = None) -> dict[str, str]:
    """The SHA-256 of every file of `files_of`, by name."""
    files = files_of(subject)
    phase(progress, "hashing the files")
    watch = Watch(progress, total=sum(store.file_size(p) for p in files.values()))
    return {n: file_digest(p, watch) for n, p in sorted(files.items())}


def lock_text(subject: Subject, progress: Callable[[int, int], object] | None = None) -> str:
    """The lock of an open subject, as the text of its file."""
    phase(progress, "digesting the weights")
    digest = canonical_digest(subject, progress=progress)
    hashes = file_digests(subject, progress)
    r = subject.graph.recognition
    data = {
        "lock_version": LOCK_VERSION,
        "architecture": r.architecture.name if r else None,
        "dialect": r.dialect.name if r else None,
        "container": subject.checkpoint.container,
        "counts": dict(subject.graph.counts),
        "config": said_values(subject),
        "other_keys": other_keys(subject),
        "other_models": _other_tensors(subject),
        "digest": digest.whole,
        "parameters": {
            n: {"dtype": i.spec.dtype, "shape": list(i.spec.shape), "digest": digest.parameters[n]} for n, i in digest.items.items()
        },
        "files": {n: {"bytes": store.file_size(p), "sha256": hashes[n]} for n, p in sorted(files_of(subject).items())},
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def said_values(subject: Subject) -> dict[str, object]:
    """What the configuration says, in canonical words: the same whatever form it is in. Defaults of a form are no word."""
    if subject.values is None:
        return {}
    values = subject.values.values
    return {k: values[k] for k in sorted(values) if k not in subject.values.assumed and isinstance(values[k], (str, int, float, bool))}


def _other_tensors(subject: Subject) -> dict[str, str]:
    """Digests of the stored tensors of the other models in the same checkpoint, which the canonical digest does not cover."""
    from blake3 import blake3

    tensors = subject.checkpoint.tensors
    out = {}
    for name in left_out_tensors(subject):
        spec = tensors[name].spec
        head = json.dumps({"dtype": spec.dtype, "name": name, "shape": list(spec.shape)}, separators=(",", ":"))
        out[name] = str(blake3(head.encode(errors="surrogateescape") + b"\n" + subject.checkpoint.array(name).tobytes()).hexdigest())
    return out


def other_keys(subject: Subject) -> dict[str, object]:
    """What the configuration says under keys that nobody here understands, as far as JSON can hold it."""
    return {k: v for k, v in sorted(other_words(subject).items()) if isinstance(v, (str, int, float, bool, list, dict, type(None)))}


def compare_lock(subject: Subject, path: str, progress: Callable[[int, int], object] | None = None) -> Iterator[Finding]:
    """What differs from what the lock file at `path` says. Raises CheckpointError where it is no lock."""
    kept = store.read_json(path)
    said = kept.get("parameters") if isinstance(kept, dict) else None
    files = kept.get("files") if isinstance(kept, dict) else None
    whole = kept.get("digest") if isinstance(kept, dict) else None
    if not isinstance(kept, dict) or not isinstance(said, dict) or not isinstance(files, dict) or not isinstance(whole, str):
        raise CheckpointError("is no lock file", path=path, hint="ckptkit lock PATH -o FILE makes one")
    if kept.get("lock_version") != LOCK_VERSION or not whole.startswith(PREFIX):
        raise CheckpointError(f"is a lock of version {kept.get('lock_version')!r}; this ckptkit knows {LOCK_VERSION}", path=path)
    name = os.path.basename(path)
    phase(progress, "digesting the weights")
    digest = canonical_digest(subject, progress=progress)
    hashes = file_digests(subject, progress)
    other = [n for n in files_of(subject) if not isinstance(files.get(n), dict) or files[n].get("sha256") != hashes[n]]
    gone = [n for n in files if n not in files_of(subject)]
    config = kept.get("config")
    yield from _config_drift(subject, config if isinstance(config, dict) else {}, name)
    others = kept.get("other_keys")
    if (
        isinstance(others, dict)
        and subject.config is not None
        and kept.get("dialect") == (r.dialect.name if (r := _recognised(subject)) else None)
    ):
        yield from _keys_drift(subject, others, name)
        yield from _unsaid(subject, config if isinstance(config, dict) else {}, name)
    beside, held = kept.get("other_models"), _other_tensors(subject)
    unlike = sorted((n for n in held if isinstance(beside, dict) and n in beside and beside[n] != held[n]), key=natural)
    if unlike:
        yield Finding(
            "error", "lock", collapse(unlike, 4),
            f"{len(unlike)} tensors of another model in the same file are changed since {name} was written: {collapse(unlike)}",
        )  # fmt: skip
    if digest.whole == whole:
        if other or gone:
            container, dialect = kept.get("container"), kept.get("dialect")
            r = subject.graph.recognition
            now = f"{r.dialect.name if r else None} in {subject.checkpoint.container}"
            how = (
                f"converted from {dialect} in {container} to {now}, same weights"
                if (f"{dialect} in {container}") != now
                else "same weights in other files"
            )
            yield Finding(
                "info",
                "lock",
                collapse([*other, *gone], 4),
                f"{how}: the canonical digest is that of {name}; other files: {collapse([*other, *gone])}",
            )
        return
    yield from _drift(digest, said, name)


def _config_drift(subject: Subject, was: dict[str, object], name: str) -> Iterator[Finding]:
    """Values that both configurations say, and say differently."""
    now = said_values(subject)
    for key in sorted(was.keys() & now.keys()):
        if was[key] != now[key] and subject.values is not None:
            where = subject.values.keys.get(key, key)
            text = f"{subject.config_name} says {where}, {key}, {now[key]!r}; when {name} was written it was {was[key]!r}"
            yield Finding("error", "lock", where, text, "the weights may be the same, the model is another one")


def _unsaid(subject: Subject, was: dict[str, object], name: str) -> Iterator[Finding]:
    """Values that the configuration, in the same form, no longer says, where a loader takes another of its own, or nobody knows."""
    r = subject.graph.recognition
    if subject.values is None or r is None:
        return
    keys = {k if isinstance(k, str) else k.canonical: key for key, k in r.dialect.config.keys.items()}
    for canonical in sorted(was.keys() - said_values(subject).keys()):
        key = keys.get(canonical, canonical)
        now = subject.value(canonical)
        if now == was[canonical] or no_effect(key, was[canonical]):
            continue
        text = f"{subject.config_name} says nothing of {key}; when {name} was written it said {_shown(was, canonical)}"
        if now is None:
            yield Finding("warning", "lock", key, text, "a loader takes its own default there", "undecided")
        else:
            yield Finding("error", "lock", key, f"{text}: a loader takes {printable(repr(now), 80)} there", f"say {key}")


def _recognised(subject: Subject) -> Recognition | None:
    return subject.graph.recognition


def _keys_drift(subject: Subject, was: dict[str, object], name: str) -> Iterator[Finding]:
    """Keys that nobody here understands and that say something else now, or nothing: the model may be another one."""
    now = other_keys(subject)
    for key in sorted(was.keys() | now.keys()):
        if was.get(key) != now.get(key) and not (key == START and key not in was.keys() & now.keys()):
            text = f"{subject.config_name} says {key} {_shown(now, key)}; when {name} was written it said {_shown(was, key)}"
            yield Finding("error", "lock", key, text, "no table here has the key: the model may be another one")


def _shown(said: dict[str, object], key: str) -> str:
    return printable(repr(said[key]), 80) if key in said else "nothing"


def _drift(digest: Digest, said: dict[str, object], name: str) -> Iterator[Finding]:
    kinds: dict[str, list[str]] = {"changed": [], "of another type": [], "of another shape": []}
    for n, item in digest.items.items():
        was = said.get(n)
        if not isinstance(was, dict):
            continue
        if was.get("shape") != list(item.spec.shape):
            kinds["of another shape"].append(n)
        elif was.get("dtype") != item.spec.dtype:
            kinds["of another type"].append(n)
        elif was.get("digest") != digest.parameters[n]:
            kinds["changed"].append(n)
    kinds["new"] = [n for n in digest.items if n not in said]
    kinds["gone"] = [n for n in said if n not in digest.items]
    for kind, names in kinds.items():
        if names:
            names.sort(key=natural)
            s = "s" * (len(names) != 1)
            yield Finding(
                "error",
                "lock",
                collapse(names, 4),
                f"{len(names)} of {len(said)} parameter{s} {'are' if s else 'is'} {kind} since {name} was written: {collapse(names)}",
            )
