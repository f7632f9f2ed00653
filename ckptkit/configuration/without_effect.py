"""Keys of a configuration that change no output of the model that is loaded: who wrote it, how it is trained, what is returned.

Source: transformers/configuration_utils.py (PretrainedConfig's own attributes) and the generation settings it took out of them. A key
that is not listed here and that no architecture's table explains may change what the model computes.
"""

from __future__ import annotations

WITHOUT_EFFECT = frozenset((
    "_name_or_path", "_commit_hash", "_attn_implementation", "_attn_implementation_autoset", "transformers_version", "torch_dtype", "dtype",
    "architectures", "model_type", "auto_map", "finetuning_task", "task_specific_params", "problem_type", "tokenizer_class",
    "use_cache", "output_attentions", "output_hidden_states", "output_past", "return_dict", "return_dict_in_generate", "output_scores",
    "torchscript", "tf_legacy_loss", "use_bfloat16", "chunk_size_feed_forward", "gradient_checkpointing", "initializer_range",
    "initializer_factor", "attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout", "dropout", "dropout_rate",
    "attention_dropout", "activation_dropout", "embd_pdrop", "attn_pdrop", "resid_pdrop", "summary_first_dropout", "seq_classif_dropout",
    "qa_dropout", "generator_hidden_dropout", "classifier_dropout_prob", "summary_last_dropout", "tie_weights_", "sinusoidal_pos_embds",
    "reorder_and_upcast_attn", "attention_softmax_in_fp32", "scale_attention_softmax_in_fp32", "n_ctx",
    "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head",
    "pooler_type", "hidden_dropout", "embed_dropout", "resid_dropout", "layerdrop", "id2label", "label2id", "num_labels", "prefix",
    "exponential_decay_length_penalty", "eos_token_ids",
    "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k",
    "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
    "num_return_sequences", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values", "suppress_tokens",
    "begin_suppress_tokens", "bos_token_id", "eos_token_id", "sep_token_id", "decoder_start_token_id", "n_docs", "directionality",
    "output_router_logits", "router_aux_loss_coef", "pretraining_tp", "slow_but_exact", "emb_pdrop", "embed_dropout", "embedding_dropout",
    "hidden_dropout", "resid_dropout", "residual_dropout", "init_device", "init_std", "input_jitter_noise",
    "ckptkit",
))  # fmt: skip

# keys that do change outputs, and the value under which they do not
AS_USUAL: dict[str, tuple[object, ...]] = {
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "cross_attention_hidden_size": (None,),
    "tie_encoder_decoder": (False,),
    "pruned_heads": ({}, None),
    "router_jitter_noise": (0.0, 0),
    "position_embedding_type": ("absolute",),
}


def no_effect(key: str, value: object) -> bool:
    """Whether a key says nothing of what the model computes."""
    return key in WITHOUT_EFFECT or value is None or any(value == v and type(value) is type(v) for v in AS_USUAL.get(key, ()))
