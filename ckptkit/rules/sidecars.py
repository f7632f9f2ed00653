"""What lies beside the weights: vocabularies, and the names of the folders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from .. import store
from .._typing import TYPE_CHECKING
from ..arch import names, variants_called
from ..errors import CheckpointError, printable
from ..findings import Finding
from ..graph.examine import Subject
from ._base import folder_of, rule

if TYPE_CHECKING:
    from ..containers import Checkpoint

ORDER = 60

PADDINGS = (8, 16, 32, 64, 128, 256, 512)  # to a multiple of which programs pad a vocabulary
_GOOGLE_NAME = r"(?:^|[_-])L-(\d+)_H-(\d+)_A-(\d+)(?:$|[_-])"
_LAYERS = r"(?:^|[_-])(?:(\d{1,3})[_-]?layers?|L(\d{1,3}))(?=[_-]|$)"
_SAVE = (
    r"(?:checkpoint|ckpt|step|epoch|iter|global|best|final|last|latest|main|models?|weights|snapshots?"
    r"|py|torch|pytorch|tf\d?|tensorflow|safetensors|bin|\d+|[0-9a-f]{7,40}|[_-])+"
)
_SAVES = frozenset("cseigbflmwpt_-0123456789ad")  # what such a name begins with: the pattern takes 0.2 ms to compile
_MOST = 20  # links that are listed
_TO_SPACE = {c: " " for c in range(128) if not chr(c).isalnum()}


# --- vocabulary ----------------------------------------------------------------------------------------------------


def _lines(path: str) -> int:
    """Tokens of a vocab.txt: a line each, the last one's end optional."""
    raw = store.read_bytes(path)
    return raw.count(b"\n") + (not raw.endswith(b"\n") and bool(raw))


def _json_ids(path: str) -> int:
    """One more than the largest id of a vocab.json."""
    data = store.read_json(path)
    return _top(data)


def _top(ids: object) -> int:
    if isinstance(ids, dict):
        return max((v for v in ids.values() if isinstance(v, int)), default=-1) + 1
    return len(ids) if isinstance(ids, list) else 0


def _tokenizer_json(path: str) -> int:
    """One more than the largest id of a tokenizer.json, tokens added later included."""
    data = store.read_json(path)
    model = data.get("model") if isinstance(data, dict) else None
    n = _top(model.get("vocab")) if isinstance(model, dict) else 0
    added = data.get("added_tokens") if isinstance(data, dict) else None
    for token in added if isinstance(added, list) else ():
        if isinstance(token, dict) and isinstance(token.get("id"), int):
            n = max(n, token["id"] + 1)
    return n


def _pieces(path: str) -> int:
    """Pieces of a sentencepiece model: field 1 of sentencepiece_model.proto's ModelProto."""
    from ..support.protobuf import fields

    raw = store.read_bytes(path)
    return sum(number == 1 for number, *_ in fields(raw, 0, len(raw), path))


def _added_tokens(path: str) -> int:
    """One more than the largest id of an added_tokens.json (token: id) or of tokenizer_config.json's added_tokens_decoder (id: token)."""
    data = store.read_json(path)
    if isinstance(data, dict) and isinstance(said := data.get("added_tokens_decoder"), dict):
        return max((int(k) for k in said if k.isascii() and k.isdigit() and len(k) < 10), default=-1) + 1
    return _top(data) if os.path.basename(path) == "added_tokens.json" else 0


VOCABULARIES = {
    # keras_hub's presets, whose tokenizer.json has settings alone
    "assets/tokenizer/vocabulary.txt": _lines, "assets/tokenizer/vocabulary.json": _json_ids, "assets/tokenizer/vocabulary.spm": _pieces,
    "tokenizer.json": _tokenizer_json, "vocab.txt": _lines, "vocab.json": _json_ids, "encoder.json": _json_ids, "spiece.model": _pieces,
    "sentencepiece.model": _pieces, "sentencepiece.bpe.model": _pieces, "tokenizer.model": _pieces, "30k-clean.model": _pieces,
}  # fmt: skip
ADDED = {"added_tokens.json": _added_tokens, "tokenizer_config.json": _added_tokens}  # beside one of the above


def vocabularies(checkpoint: Checkpoint) -> dict[str, int | None]:
    """File -> number of tokens of every vocabulary beside a checkpoint, what was added to it after; None of one that cannot be read."""
    folder = folder_of(checkpoint)
    found: dict[str, int | None] = {}
    for name, size in {**VOCABULARIES, **ADDED}.items():
        path = os.path.join(folder, name)
        if name == "tokenizer.json" and found:
            continue
        if store.is_file(path) and (name in VOCABULARIES or found):
            try:
                found[name] = size(path)
            except CheckpointError:
                found[name] = None
    return {name: n for name, n in found.items() if n or name in VOCABULARIES}


def vocabulary_size(checkpoint: Checkpoint) -> tuple[str, int] | None:
    """(file, number of tokens) of the largest vocabulary beside a checkpoint; None if there is none, or one that cannot be read."""
    found = vocabularies(checkpoint)
    known = [(n, name) for name, n in found.items() if n]
    if not known or len(known) < len(found):
        return None
    n, name = max(known, key=lambda k: k[0])
    return name, n


def is_padding(tokens: int, rows: int) -> bool:
    """Whether so many more rows than tokens may be padding: to a multiple that programs pad to, or few."""
    return rows - tokens < 128 or any(-(-tokens // p) * p == rows for p in PADDINGS)


@rule("vocabulary", "error", "The vocabulary beside the weights fits their rows", reads="beside")
def vocabulary(s: Subject) -> Iterator[Finding]:
    """The tokens of tokenizer.json, vocab.txt, vocab.json or a sentencepiece model, with those added in added_tokens.json or
    tokenizer_config.json, against the rows of the embedding; each file that is there by itself. More tokens than rows is an error: the
    last tokens have no embedding. Fewer is an information where the rows are padded to a multiple of 8 to 512 or by less than 128
    (`ckptkit fix` trims them), a warning otherwise: probably another model's vocabulary. A file that cannot be read, or is empty, is
    a warning.
    """
    rows = s.sizes().axis.get("vocab") if s.architecture is not None else None
    if not rows:
        return
    found = vocabularies(s.checkpoint)
    most = max((n for n in found.values() if n), default=0)
    for name, tokens in found.items():
        if not tokens:
            why = "cannot be read as a vocabulary" if tokens is None else "holds no token"
            yield Finding(
                "warning", "vocabulary", name, f"{name} {why}; the weights have {rows:,} rows", "get the file that belongs to the weights"
            )
        elif tokens > rows:
            more = f"{tokens - rows:,} token{'s have' if tokens - rows > 1 else ' has'} no embedding"
            yield Finding(
                "error",
                "vocabulary",
                name,
                f"{name} has {tokens:,} tokens; the weights have rows for {rows:,}: {more}",
                "take the vocabulary that belongs to the weights",
            )
        elif tokens < rows and tokens == most:  # the others are parts of it
            padded = is_padding(tokens, rows)
            words = "padding" if padded else "far more than padding: another model's vocabulary?"
            yield Finding(
                "info" if padded else "warning",
                "vocabulary",
                name,
                f"{name} has {tokens:,} tokens; the weights have {rows:,} rows, {rows - tokens:,} more: {words}",
                basis="inferred",
            )


# --- the folder's name ---------------------------------------------------------------------------------------------


def _names(checkpoint: Checkpoint) -> Iterator[str]:
    """What may say which model it is: the file, its folder, and those above as long as a folder only says which of several saves it is."""
    yield os.path.basename(checkpoint.path.rstrip("/")).partition(".safetensors")[0]
    folder = folder_of(checkpoint)
    for _ in range(4):
        name = os.path.basename(folder)
        yield name
        if not (name and name[0].lower() in _SAVES and re.fullmatch(_SAVE, name.lower())):
            return
        folder = os.path.dirname(folder)


def _named_variant(words: list[str]) -> tuple[str, dict[str, int]] | None:
    """The longest known variant whose name's words stand in `words` one after another."""
    best: tuple[int, str, dict[str, int]] | None = None
    families = names()  # "gpt2" says the family, and no size of it
    said = f" {' '.join(words)} "
    for name, sizes in variants_called(words).items():
        parts = name.lower().translate(_TO_SPACE).split()
        if f" {' '.join(parts)} " in said and name not in families and (best is None or len(parts) > best[0]):
            best = (len(parts), name, dict(sizes))
    return best[1:] if best is not None else None


def _words(name: str) -> list[str]:
    """The runs of ASCII letters and digits in a name, in lower case."""
    return "".join(c if c.isascii() and c.isalnum() else " " for c in name.lower()).split()


def _promise(name: str) -> tuple[str, dict[str, int], bool] | None:
    """(who says it, the sizes, whether all of them are meant) of a name; None where it says nothing."""
    m = re.search(_GOOGLE_NAME, name) if "L-" in name else None  # each pattern takes 0.1 ms to compile
    if m:
        return "its name", dict(zip(("layers", "hidden"), map(int, m.groups()[:2]), strict=True)), True
    words = _words(name)
    named = _named_variant(words)
    m = re.search(_LAYERS, name) if "layer" in name or "L" in name else None
    if named is not None and m is None:
        return named[0], named[1], _words(named[0]) == words
    return ("its name", {"layers": int(m[1] or m[2])}, True) if m else None


@rule("links", "warning", "What lies beside the weights lies in their folder", reads="beside")
def links(s: Subject) -> Iterator[Finding]:
    """A file beside the weights (a vocabulary, a tokenizer's settings, a licence) is a link that leads out of the checkpoint's folder, and
    out of the blobs of a hub's cache: whoever made the folder would have any file of this machine copied under that name. `convert` leaves
    it out. A configuration of that kind is not read: name it with --config. The weights themselves may be links.
    """
    folder = folder_of(s.checkpoint)
    own = {store.absolute(f) for f in s.checkpoint.files}
    own |= {os.path.join(folder, f.where) for f in s.findings if f.rule == "config"}  # which was said
    try:
        names = sorted(n for n, below, regular in store.entries(folder) if not below and not regular)
    except OSError:
        return
    found = 0
    for name in names:
        path = os.path.join(folder, name)
        if found < _MOST and store.absolute(path) not in own and store.is_file(path) and (out := store.leads_out(path, folder)) is not None:
            found += 1
            said = f"{printable(name)} is a link that leads out of the checkpoint's folder, to {printable(out)}"
            yield Finding("warning", "links", name, said, "copy the file itself into the folder, if it belongs there")


@rule("variant", "warning", "The folder is named after what it holds", basis="inferred")
def variant(s: Subject) -> Iterator[Finding]:
    """A folder called roberta-large that holds 12 layers, or one called uncased_L-24_H-1024_A-16 or tiny-6-layers that holds others.
    The file's own name counts too, and the folder above where the folder only says which save it is (checkpoint-1000, a revision).
    Only the number of layers decides, and the sizes where the folder bears exactly a variant's name; a name is a hint and no proof.
    """
    if s.architecture is None:
        return
    have = {**s.graph.solution.sizes.axis, **s.graph.counts}
    for folder in _names(s.checkpoint):
        promise = _promise(folder)
        if promise is None:
            continue
        name, sizes, exact = promise
        wrong = [k for k in sizes if k in have and have[k] != sizes[k] and (exact or k == "layers")]
        if wrong:
            said, seen = " and ".join(f"{sizes[k]} {k}" for k in wrong), " and ".join(f"{have[k]} {k}" for k in wrong)
            other = s.graph.variant()
            what = "folder" if folder in store.absolute(folder_of(s.checkpoint)).split(os.sep) else "file name"
            yield Finding(
                "warning", "variant", folder, f"the {what} {folder} promises {said} ({name}); the weights have "
                                              f"{seen}{f', as {other} has' if other else ''}",
                "is this the checkpoint that was meant?", basis="inferred",
            )  # fmt: skip
        return
