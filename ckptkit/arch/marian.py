"""Marian's translators (Helsinki-NLP): norms after each part, positions in sines and cosines, one vocabulary for both sides or two.

Source: transformers models/marian (`share_encoder_decoder_embeddings`).
"""

from ckptkit.arch._libraries import bart
from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.marian import own
from ckptkit.schema import Besides, embedding, linear, when

S = "shared_words"
WORDS = bart.modules()
MODULES = {
    **WORDS,
    "lm_head": when(S, WORDS["lm_head"]),
    "decoder_embeddings.word": when(f"not {S}", embedding("decoder_vocab hidden")),
    "target_head": when(f"not {S}", linear("decoder_vocab", "hidden", group="lm", tied={"weight": "decoder_embeddings.word.weight"})),
}
SHARED = bart.hf(
    "marian", WORDS, bart.classes("Marian", name="MTModel"),
    keys={"decoder_vocab_size": may("decoder_words"), "share_encoder_decoder_embeddings": may(S)},
    defaults={"pad": 58100, "eos": 0, S: True, "decoder_words": "=vocab"}, derived=bart.WAVES,
)  # fmt: skip
OTHER: dict[str, tuple[str, str | tuple[str, ...]]] = {
    "~shared": ("~encoder.embed_tokens", "embeddings.word"),
    "lm_head.weight": ("lm_head.weight", "target_head.weight"),
    "final_logits_bias": ("final_logits_bias", ("target_head.bias", "1 decoder_vocab")),
}
# what its class would else take for the first token of a translation, and let it end without
ENDS = {"decoder_start_token_id": lambda values: values.get("pad"), "forced_eos_token_id": lambda values: values.get("eos")}
ALSO = {**SHARED.config.also, **ENDS}
SHARED = SHARED._replace(config=SHARED.config._replace(also=ALSO))
APART = SHARED._replace(
    name="hf_apart",
    title="transformers (PyTorch), two vocabularies",
    alias="hf",
    rows={**dict(OTHER.get(k, (k, v)) for k, v in SHARED.rows.items()), "~decoder.embed_tokens": "decoder_embeddings.word"},
    besides=Besides(derived=bart.WAVES),
    config=SHARED.config._replace(keys={**SHARED.config.keys, "decoder_vocab_size": may("decoder_vocab")}),
)

ARCHITECTURE = bart.architecture(
    "marian", "Marian", MODULES, (SHARED, APART, own(WORDS)), positions="waves", norm="after", derivations={"waves": bart.waves},
    variants={"opus-mt": {"layers": 6, "decoder_layers": 6, "hidden": 512, "heads": 8}},
)  # fmt: skip
