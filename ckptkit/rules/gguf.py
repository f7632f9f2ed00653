"""GGUF files: what llama.cpp's loader asks for, and a vocabulary of as many words as the table has rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..errors import printable
from ..findings import Finding
from ..graph.examine import Subject
from ._base import are, rule

ORDER = 27
# llama_model_base::load_hparams of llama.cpp, of every architecture
REQUIRED = ("context_length", "embedding_length", "block_count")
TABLE, WORDS = "token_embd.weight", "tokenizer.ggml.tokens"


@rule("gguf-keys", "error", "A GGUF file says what llama.cpp's loader asks for")
def gguf_keys(s: Subject) -> Iterator[Finding]:
    """The keys without which llama.cpp loads no model (the context, the width, the number of layers), and a vocabulary that has a word
    for each row of the table of embeddings: its loader takes the number of rows from there. Keys that lack are a warning, since the
    tensors say the same.
    """
    if s.checkpoint.container != "gguf" or not s.checkpoint.tensors:
        return
    kept = s.checkpoint.extras.get("gguf")
    keys = kept if isinstance(kept, Mapping) else {}
    said, words = keys.get("general.architecture"), keys.get(WORDS)
    table = s.checkpoint.tensors.get(TABLE)
    if table is None or not table.spec.shape:  # a part of a model, or samples of types
        return
    if said is not None and isinstance(said.value, str):
        lacking = [k for r in REQUIRED if (k := f"{said.value}.{r}") not in keys]
        if lacking:
            message = f"{', '.join(lacking)} {are(lacking)} not there, without which llama.cpp does not load a file"
            yield Finding("warning", "gguf-keys", lacking[0], message, "ckptkit convert of it to gguf writes them")
    if words is None:
        return
    many = words.value.many if hasattr(words.value, "many") else len(words.value)
    if many != table.spec.shape[0]:
        message = f"{printable(TABLE)} has {table.spec.shape[0]:,} rows; {WORDS} has {many:,} words"
        yield Finding("error", "gguf-keys", TABLE, message, "llama.cpp asks for a row for each word")
