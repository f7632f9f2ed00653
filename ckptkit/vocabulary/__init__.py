"""Vocabularies: the keys of a GGUF file from a tokenizer's files, and the files from the keys.

The formats are their libraries' own: `tokenizers` reads and writes tokenizer.json, `sentencepiece` reads tokenizer.model. Both are an
extra; without them, or without files, what is missing is said and the rest is written.
"""

from __future__ import annotations

from .from_files import keys_of
from .from_keys import files_of

__all__ = ["files_of", "keys_of"]
