"""Tiny encoders made by transformers at test time, with sizes that tell axes apart, and what they give.

Every parameter is moved away from what it starts as: a norm of ones or a bias of zeros would hide a fault.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
LENGTH = 19
SMALL: dict[str, Any] = {
    "vocab_size": 101, "hidden_size": 24, "intermediate_size": 44, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 48, "type_vocab_size": 2, "hidden_act": "gelu", "num_labels": 5,
}  # fmt: skip

XL: dict[str, Any] = {"vocab_size": 101, "d_model": 24, "n_layer": 3, "n_head": 4, "d_inner": 44, "pad_token_id": 0, "num_labels": 5}
FUNNEL: dict[str, Any] = {
    "vocab_size": 101, "d_model": 24, "block_sizes": [2, 1, 3], "num_decoder_layers": 2, "n_head": 4, "d_head": 5, "d_inner": 44,
    "num_labels": 5,
}  # fmt: skip

# name of a case -> (class, what its configuration says besides SMALL)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "roformer": ("RoFormerForMaskedLM", {"embedding_size": 20, "rotary_value": True}),
    "roformer as wide": ("RoFormerForMaskedLM", {"embedding_size": 24, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5}),
    "roformer classes": ("RoFormerForSequenceClassification", {"hidden_act": "relu"}),
    "roformer tokens": ("RoFormerForTokenClassification", {}),
    "roformer answers": ("RoFormerForQuestionAnswering", {"embedding_size": 20, "num_labels": 2}),
    "bert": ("BertForPreTraining", {}),
    "roberta": ("RobertaForMaskedLM", {}),
    "ernie": ("ErnieForMaskedLM", {"use_task_id": True, "task_type_vocab_size": 3}),
    "electra": ("ElectraForMaskedLM", {"embedding_size": 20}),
    "megatron_bert": ("MegatronBertForPreTraining", {"layer_norm_eps": 1e-5}),
    "megatron_bert classes": ("MegatronBertForSequenceClassification", {}),
    "roberta_prelayernorm": ("RobertaPreLayerNormForMaskedLM", {"type_vocab_size": 1}),
    "roberta_prelayernorm classes": ("RobertaPreLayerNormForSequenceClassification", {"type_vocab_size": 2}),
    "xlm_roberta_xl": ("XLMRobertaXLForMaskedLM", {"type_vocab_size": 1}),
    "xlm_roberta_xl model": ("XLMRobertaXLModel", {"type_vocab_size": 1}),
    "modernbert": ("ModernBertForMaskedLM", {"hidden_activation": "gelu", "local_attention": 6, "global_attn_every_n_layers": 2}),
    "modernbert biases": ("ModernBertForSequenceClassification", {"norm_bias": True, "attention_bias": True, "mlp_bias": True,
        "classifier_bias": True, "classifier_pooling": "mean", "local_attention": 8, "classifier_activation": "relu"}),
    "modernbert tokens": ("ModernBertForTokenClassification", {"local_attention": 6}),
    "modernbert first": ("ModernBertForSequenceClassification", {"local_attention": 6, "norm_eps": 1e-3}),
    "modernbert answers": ("ModernBertForQuestionAnswering", {"local_attention": 6, "num_labels": 2}),
    "nomic_bert": ("NomicBertForMaskedLM", {"hidden_act": "silu", "head_dim": 8}),
    "nomic_bert classes": ("NomicBertForSequenceClassification", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    "gte": ("GteForMaskedLM", {}),
    "gte without segments": ("GteForSequenceClassification", {"type_vocab_size": 0}),
    "jina_embeddings_v3": ("JinaEmbeddingsV3ForMaskedLM", {"type_vocab_size": 1}),
    "jina_embeddings_v3 classes": ("JinaEmbeddingsV3ForSequenceClassification", {"type_vocab_size": 1}),
    "eurobert": ("EuroBertForMaskedLM", {"hidden_act": "silu", "num_key_value_heads": 2, "mlp_bias": True, "tie_word_embeddings": True}),
    "eurobert late": ("EuroBertForSequenceClassification", {"attention_bias": True}),
    "eurobert mean": ("EuroBertForSequenceClassification", {"classifier_pooling": "mean"}),
    "eurobert first": ("EuroBertForSequenceClassification", {"classifier_pooling": "bos"}),
    "eurobert tokens": ("EuroBertForTokenClassification", {}),
    "esm": ("EsmForMaskedLM", {"position_embedding_type": "rotary", "token_dropout": True, "mask_token_id": 32, "pad_token_id": 1}),
    "esm one": ("EsmForMaskedLM", {"position_embedding_type": "absolute", "emb_layer_norm_before": True, "pad_token_id": 1}),
    "esm classes": ("EsmForSequenceClassification", {"position_embedding_type": "rotary", "pad_token_id": 1}),
    "deberta": ("DebertaForMaskedLM", {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False,
        "max_relative_positions": 12}),
    "deberta c2p": ("DebertaForSequenceClassification", {"relative_attention": True, "pos_att_type": "c2p", "type_vocab_size": 2}),
    "deberta as BERT": ("DebertaForTokenClassification", {"pooler_hidden_act": "tanh"}),
    "deberta_v2": ("DebertaV2ForMaskedLM", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
        "position_buckets": 6, "norm_rel_ebd": "layer_norm", "share_att_key": True, "type_vocab_size": 0}),
    "deberta_v2 own head": ("DebertaV2ForMaskedLM", {"relative_attention": True, "pos_att_type": "p2c", "legacy": False,
        "max_relative_positions": 20, "conv_kernel_size": 3, "conv_act": "gelu"}),
    "deberta_v2 own keys": ("DebertaV2ForSequenceClassification", {"relative_attention": True, "pos_att_type": ["c2p", "p2c"],
        "position_buckets": 8, "max_relative_positions": 40, "conv_kernel_size": 5, "conv_groups": 2, "embedding_size": 16,
        "norm_rel_ebd": "layer_norm"}),
    "deberta_v2 answers": ("DebertaV2ForQuestionAnswering", {"num_labels": 2}),
    "big_bird": ("BigBirdForPreTraining", {"attention_type": "original_full", "rescale_embeddings": True}),
    "big_bird answers": ("BigBirdForQuestionAnswering", {"attention_type": "original_full", "num_labels": 2, "sep_token_id": 7}),
    "big_bird of few blocks": ("BigBirdForSequenceClassification", {"attention_type": "block_sparse", "block_size": 4,
        "num_random_blocks": 1, "use_bias": False, "hidden_act": "relu"}),
    "big_bird of many blocks": ("BigBirdForMaskedLM", {"attention_type": "block_sparse", "block_size": 2, "num_random_blocks": 2}),
    "layoutlm": ("LayoutLMForMaskedLM", {"max_2d_position_embeddings": 30}),
    "layoutlm classes": ("LayoutLMForSequenceClassification", {"max_2d_position_embeddings": 30}),
    "longformer": ("LongformerForMaskedLM", {"attention_window": [4, 8, 6], "type_vocab_size": 1, "pad_token_id": 1}),
    "longformer tokens": ("LongformerForTokenClassification", {"attention_window": 6, "type_vocab_size": 1, "pad_token_id": 1}),
    "longformer classes": ("LongformerForSequenceClassification", {"attention_window": 4, "type_vocab_size": 1, "pad_token_id": 1}),
    "longformer answers": ("LongformerForQuestionAnswering", {"attention_window": 4, "type_vocab_size": 1, "pad_token_id": 1,
        "num_labels": 2, "sep_token_id": 77}),
    "longformer global": ("LongformerForMaskedLM", {"attention_window": [4, 8, 6], "type_vocab_size": 1, "pad_token_id": 1}),
    "convbert": ("ConvBertForMaskedLM", {"embedding_size": 20, "conv_kernel_size": 5, "hidden_act": "relu"}),
    "convbert classes": ("ConvBertForSequenceClassification", {"embedding_size": 24, "conv_kernel_size": 3, "head_ratio": 4}),
    "xlnet": ("XLNetLMHeadModel", XL),
    "xlnet tokens": ("XLNetForTokenClassification", {**XL, "clamp_len": 5, "ff_activation": "relu"}),
    "funnel": ("FunnelForMaskedLM", {**FUNNEL, "block_repeats": [1, 2, 1]}),
    "funnel of all keys": ("FunnelForTokenClassification", {**FUNNEL, "pooling_type": "max", "separate_cls": False, "pool_q_only": False,
        "attention_type": "factorized", "block_sizes": [2, 3], "block_repeats": [2, 1]}),
    "funnel untruncated": ("FunnelForQuestionAnswering", {**FUNNEL, "truncate_seq": False, "num_labels": 2}),
    "funnel detector": ("FunnelForPreTraining", {**FUNNEL, "truncate_seq": False, "pool_q_only": False, "block_sizes": [1, 3]}),
    "funnel classes": ("FunnelForSequenceClassification", {**FUNNEL, "block_sizes": [1, 1, 1, 3]}),
    "squeezebert": ("SqueezeBertForMaskedLM", {
        "embedding_size": 24, "q_groups": 2, "k_groups": 3, "v_groups": 4, "post_attention_groups": 6, "intermediate_groups": 1,
        "output_groups": 4, "layer_norm_eps": 1e-3,
    }),
    "squeezebert classes": ("SqueezeBertForSequenceClassification", {"embedding_size": 24, "hidden_act": "relu"}),
    "mobilebert": ("MobileBertForPreTraining", {
        "intra_bottleneck_size": 16, "embedding_size": 20, "num_feedforward_networks": 3, "hidden_act": "relu",
    }),
    "mobilebert classes": ("MobileBertForSequenceClassification", {
        "intra_bottleneck_size": 16, "embedding_size": 24, "num_feedforward_networks": 1, "trigram_input": False,
    }),
    "mobilebert tokens": ("MobileBertForTokenClassification", {
        "intra_bottleneck_size": 16, "embedding_size": 20, "num_feedforward_networks": 2, "trigram_input": False,
    }),
    "xlm": ("XLMWithLMHeadModel", {"n_langs": 3, "pad_token_id": 1}),
    "xlm causal": ("XLMForSequenceClassification", {"causal": True, "gelu_activation": False, "pad_token_id": 1, "layer_norm_eps": 1e-3}),
    "xlm tokens": ("XLMForTokenClassification", {"n_langs": 3, "use_lang_emb": False, "pad_token_id": 1}),
    "luke": ("LukeForMaskedLM", {"entity_vocab_size": 31, "entity_emb_size": 20, "pad_token_id": 1}),
    "luke as wide": ("LukeForSequenceClassification", {"entity_vocab_size": 31, "entity_emb_size": 24, "pad_token_id": 1,
        "use_entity_aware_attention": False}),
    "luke tokens": ("LukeForTokenClassification", {"entity_vocab_size": 31, "entity_emb_size": 20, "pad_token_id": 1}),
    "mpnet": ("MPNetForMaskedLM", {}),
    "mpnet model": ("MPNetModel", {"layer_norm_eps": 1e-5}),
    "mpnet tokens": ("MPNetForTokenClassification", {}),
}  # fmt: skip


def make(case: str, folder: Path) -> Path:
    """The checkpoint of a case, saved by transformers."""
    import torch
    import transformers

    name, own = CASES[case]
    cls = getattr(transformers, name)
    torch.manual_seed(len(case))
    usual = cls.config_class()
    said = {**{k: v for k, v in SMALL.items() if not own.keys() & {"d_model", "num_encoder_layers"} and hasattr(usual, k)}, **own}
    if "pad_token_id" not in own and (usual.pad_token_id or 0) >= SMALL["vocab_size"]:
        said["pad_token_id"] = 0
    model = cls(cls.config_class(**said)).eval()
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.is_floating_point() and tensor.requires_grad:
                tensor += 0.15 * torch.randn(tensor.shape)
    path = folder / case.replace(" ", "_").replace(",", "")
    model.save_pretrained(path)
    return path


def decoded(given: Arrays) -> Arrays:
    """The same inputs with a text to go on with."""
    ids = np.random.default_rng(4).integers(4, 83, (2, LENGTH))  # as many as the encoder's, for heads that look at both
    return {**{k: v for k, v in given.items() if k != "token_type_ids"}, "decoder_input_ids": ids}


def given(case: str, segments: bool, decoder: bool) -> Arrays:
    """What a case is run on: `inputs`, with a text to go on with, with global positions."""
    out = inputs(segments)
    if case == "longformer answers":  # where the question ends, and the text begins and ends
        out["input_ids"][out["input_ids"] == 77] = 78
        out["input_ids"][:, (4, 12, 13)] = 77
    out = decoded(out) if decoder else out
    marked = np.isin(np.arange(LENGTH), (0, 9, 10)).astype(np.int64)[None].repeat(2, 0)
    return {**out, "global_attention_mask": marked} if case.endswith("global") else out


def inputs(segments: bool = True) -> Arrays:
    rng = np.random.default_rng(3)
    ids = rng.integers(4, 101, (2, LENGTH))
    mask = np.ones_like(ids)
    mask[1, LENGTH - 4 :] = 0
    ids = np.where(mask == 1, ids, 1)
    out = {"input_ids": ids, "attention_mask": mask}
    return {**out, "token_type_ids": (np.arange(LENGTH) >= 11).astype(np.int64)[None].repeat(2, 0)} if segments else out


# of sequence-to-sequence models, whose configurations have other keys
LARGE: dict[str, Any] = {
    "vocab_size": 101, "d_model": 24, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 3,
    "encoder_ffn_dim": 44, "decoder_ffn_dim": 36, "max_position_embeddings": 48, "num_labels": 5, "pad_token_id": 1, "eos_token_id": 2,
    "bos_token_id": 0, "decoder_start_token_id": 2, "forced_eos_token_id": None,
}  # fmt: skip
T5: dict[str, Any] = {
    "vocab_size": 101, "d_model": 24, "d_kv": 7, "d_ff": 44, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4, "pad_token_id": 0,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16, "decoder_start_token_id": 0,
}  # fmt: skip
AHEAD: dict[str, Any] = {
    "hidden_size": 24, "num_encoder_layers": 3, "num_decoder_layers": 2, "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 3,
    "encoder_ffn_dim": 44, "decoder_ffn_dim": 36, "num_buckets": 8, "relative_max_distance": 12, "activation_function": "relu",
    "vocab_size": 101, "max_position_embeddings": 48, "pad_token_id": 0,
}  # fmt: skip
SWITCH: dict[str, Any] = {**T5, "num_experts": 5, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
CASES |= {
    "bart": ("BartForConditionalGeneration", {**LARGE, "scale_embedding": True}),
    "bart model": ("BartModel", {**LARGE, "activation_function": "relu"}),
    "bart answers": ("BartForQuestionAnswering", {**LARGE, "num_labels": 2}),
    "mbart": ("MBartForConditionalGeneration", LARGE),
    "pegasus": ("PegasusForConditionalGeneration", {**LARGE, "scale_embedding": True, "pad_token_id": 0}),
    "marian": ("MarianMTModel", {**LARGE, "activation_function": "swish"}),
    "marian two vocabularies": ("MarianMTModel", {**LARGE, "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 83}),
    "m2m_100": ("M2M100ForConditionalGeneration", LARGE),
    "blenderbot": ("BlenderbotForConditionalGeneration", LARGE),
    "umt5": ("UMT5ForConditionalGeneration", {**T5, "feed_forward_proj": "gated-gelu"}),
    "umt5 encoder": ("UMT5EncoderModel", T5),
    "longt5": ("LongT5ForConditionalGeneration", {**T5, "local_radius": 3, "feed_forward_proj": "gated-silu"}),
    "longt5 of blocks": ("LongT5ForConditionalGeneration", {**T5, "local_radius": 3, "encoder_attention_type": "transient-global",
        "global_block_size": 4, "num_decoder_layers": 5}),
    "led": (
        "LEDForConditionalGeneration",
        {
            **{k: v for k, v in LARGE.items() if "position" not in k},
            "max_encoder_position_embeddings": 48,
            "max_decoder_position_embeddings": 40,
            "attention_window": [4, 6, 8],
        },
    ),
    "led global": ("LEDForConditionalGeneration", {**LARGE, "max_encoder_position_embeddings": 48, "max_decoder_position_embeddings": 40,
        "attention_window": 4}),
    "blenderbot_small": ("BlenderbotSmallForConditionalGeneration", LARGE),
    "prophetnet": ("ProphetNetForConditionalGeneration", {**AHEAD, "ngram": 3}),
    "prophetnet model": ("ProphetNetModel", {**AHEAD, "ngram": 1, "pad_token_id": 2}),
    "nllb_moe": ("NllbMoeForConditionalGeneration", {**LARGE, "num_experts": 5, "encoder_sparse_step": 2, "decoder_sparse_step": 1,
        "moe_token_dropout": 0.25}),
    "nllb_moe model": ("NllbMoeModel", {**LARGE, "num_experts": 3, "router_bias": True, "encoder_sparse_step": 3,
        "decoder_sparse_step": 0}),
    "switch_transformers": ("SwitchTransformersForConditionalGeneration", {**SWITCH, "expert_capacity": 6}),
    "switch_transformers with biases": ("SwitchTransformersForConditionalGeneration", {**SWITCH, "router_bias": True,
        "num_sparse_encoder_layers": 3, "num_sparse_decoder_layers": 0, "dense_act_fn": "gelu_new"}),
    "switch_transformers encoder": ("SwitchTransformersEncoderModel", SWITCH),
}

HEADS = ("mlm", "classification", "classifier", "lm", "detector")
OUTPUTS = {"prediction_logits": "mlm", "seq_relationship_logits": "nsp", "pooler_output": "pooler", "last_hidden_state": "hidden"}


def outputs(model: Any, given: Arrays) -> Arrays:
    """What a model of transformers gives, by the names of its outputs; hidden states one by one."""
    import inspect

    import torch

    known = inspect.signature(model.forward).parameters
    with torch.no_grad():
        more = {"use_cache": False} if "use_cache" in known else {}
        out = model(**{k: torch.from_numpy(v) for k, v in given.items() if k in known}, **more, output_hidden_states=True)
    found: Arrays = {}
    for name, value in out.items():
        if torch.is_tensor(value):
            found[name] = value.numpy()
        elif name.endswith("hidden_states"):
            found |= {f"{name}.{i}": h.numpy() for i, h in enumerate(value) if h is not None}
    return found


def mend(transformers: Any) -> None:
    """transformers 5.23 sends all tokens of NLLB-MoE to the first two experts, by an index that is 0 or 1 where the number of an expert is
    meant; with this, tokens pass those that the router chose, as in fairseq and in transformers 4."""
    import torch

    def forward(self: Any, hidden_states: Any, router_mask: Any, router_probs: Any) -> Any:
        out = torch.zeros_like(hidden_states)
        for i in range(self.num_experts):
            out = out + self[f"expert_{i}"](hidden_states) * (1 - self.moe_token_dropout) * router_probs[:, i : i + 1]
        return out

    transformers.models.nllb_moe.modeling_nllb_moe.NllbMoeExperts.forward = forward


def expected(case: str, path: Path, given: Arrays, dtype: str = "float32") -> Arrays:
    """Every hidden state and what the heads give, of the saved model run by transformers, under our names."""
    import torch
    import transformers

    mend(transformers)
    cls = getattr(transformers, CASES[case][0])
    model = cls.from_pretrained(path, dtype=getattr(torch, dtype), attn_implementation="eager").eval()
    theirs = outputs(model, given)
    if "encoder_last_hidden_state" in theirs:
        return two_stacks(theirs)
    last = max(int(n.rpartition(".")[2]) for n in theirs if n.startswith("hidden_states."))
    if hasattr(model.config, "block_sizes"):
        return {**halved(theirs, model.config, last), **heads(theirs)}
    named = {"hidden_states.0": "encoder.input", **{f"hidden_states.{i}": f"encoder.{i - 1}" for i in range(1, last)}, **OUTPUTS}
    named[f"hidden_states.{last}"] = "hidden"
    found = {named[n]: x[:, :LENGTH] if x.ndim == 3 else x for n, x in theirs.items() if n in named}  # without whole blocks' padding
    return {**found, **heads(theirs)}


def heads(theirs: Arrays) -> Arrays:
    """What heads give, under our names."""
    found = {"logits": theirs["logits"]} if "logits" in theirs else {}
    if "start_logits" in theirs:
        found["qa"] = np.stack([theirs["start_logits"], theirs["end_logits"]], axis=-1)
    return found


def halved(theirs: Arrays, config: Any, last: int) -> Arrays:
    """The hidden states of Funnel, whose last ones are of all positions again, under our names."""
    runs = sum(n * times for n, times in zip(config.block_sizes, config.block_repeats, strict=True))
    names = ["encoder.input", *(f"encoder.{i}" for i in range(runs)), "restored.input", *(f"restored.{i}" for i in range(last - runs - 1))]
    found = {name: theirs[f"hidden_states.{i}"] for i, name in enumerate(names[: last + 1])}
    return {**found, "hidden": theirs[f"hidden_states.{last}"]}


def two_stacks(theirs: Arrays) -> Arrays:
    """What an encoder-decoder gives, under our names."""
    found = {"encoder": theirs["encoder_last_hidden_state"]}
    for stack, last in (("encoder", "encoder"), ("decoder", "hidden")):
        states = [theirs[f"{stack}_hidden_states.{i}"] for i in range(50) if f"{stack}_hidden_states.{i}" in theirs]
        found |= {f"{stack}.input": states[0], last: states[-1], **{f"{stack}.{i}": h for i, h in enumerate(states[1:-1])}}
    ahead = [theirs[n] for i in range(50) if (n := f"decoder_ngram_hidden_states.{i}") in theirs]
    if ahead:
        found |= {"ahead.decoder.input": ahead[0], "ahead": ahead[-1], **{f"ahead.decoder.{i}": h for i, h in enumerate(ahead[1:-1])}}
    if "logits_ngram" in theirs:
        far = theirs["logits_ngram"]
        found["lm_ahead"] = far.reshape(len(far), -1, far.shape[-1])
    return {**found, **heads(theirs)}


def ours(trace: Arrays) -> Arrays:
    """A trace with its single head as "logits"; ModernBERT's over two labels at every token gives answers."""
    heads = [n for n in HEADS if n in trace]
    if "classifier" in trace and trace["classifier"].ndim == 3 and trace["classifier"].shape[-1] == 2:
        trace = {"qa": trace["classifier"], **trace}
    return {**trace, **({"logits": trace[heads[0]]} if len(heads) == 1 else {})}
