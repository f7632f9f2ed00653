"""One rank of a run of Megatron-core on a CPU: loads a checkpoint with Megatron's own code, keeps its tensors and runs the model.

    megatron_core.py FOLDER CONFIG OUT RANK TP PP FORM PORT

A program of its own, run by an environment that has megatron-core and torch, one process for each rank (gloo). `CONFIG` is the model's
config.json of transformers, `FORM` is dist (dist_checkpointing.load) or legacy (the rank's own model_optim_rng.pt). Writes OUT/rank_R.npz:
the tensors of the rank's model after loading, and in the last stage the logits of OUT/ids.npy. What a CPU lacks is stood in: the current
device, and a call that waits for one. The random state of a device is not asked for.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    folder, config, out, rank, tp, pp, form, port = sys.argv[1:]
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "WORLD_SIZE": str(int(tp) * int(pp)), "CUDA_VISIBLE_DEVICES": "",
        "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    import numpy as np
    import torch

    torch.set_num_threads(1)
    torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore[assignment, return-value]
    torch.cuda.synchronize = lambda *a: None
    torch.cuda.current_stream = lambda *a: None  # type: ignore[assignment, return-value]
    torch.Tensor.cuda = lambda self, *a, **k: self  # type: ignore[assignment, method-assign]
    torch.distributed.init_process_group("gloo")
    from megatron.core import parallel_state, tensor_parallel

    parallel_state.initialize_model_parallel(int(tp), int(pp))
    tensor_parallel.get_cuda_rng_tracker().add = lambda *a: None
    tensor_parallel.get_cuda_rng_tracker().fork = lambda *a: torch.no_grad()
    said = json.loads(Path(config).read_text())
    words = 128 * int(tp) * -(-said["vocab_size"] // (128 * int(tp)))
    from torch.overrides import TorchFunctionMode

    class OnCpu(TorchFunctionMode):
        """What asks for a device by name gets the CPU."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            words = dict(kwargs or {})
            return func(*args, **(words | {"device": "cpu"} if str(words.get("device")).startswith("cuda") else words))

    net = model(said, words, int(pp)).eval()
    load(net, Path(folder), form)
    held = {n: p.detach().numpy() for n, p in net.state_dict().items() if torch.is_tensor(p)}
    with OnCpu():
        held |= logits(net, torch.from_numpy(np.load(Path(out) / "ids.npy")), words)
    np.savez(Path(out) / f"rank_{rank}.npz", **held)
    torch.distributed.barrier()


def model(said: dict[str, Any], words: int, pp: int) -> Any:
    """This rank's part of a model, whose sizes are those of a configuration of transformers."""
    import torch
    from megatron.core import parallel_state
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.models.gpt.gpt_model import GPTModel
    from megatron.core.transformer.transformer_config import TransformerConfig

    kind = said["model_type"]
    gpt2 = kind == "gpt2"
    layers, heads = said.get("num_hidden_layers", said.get("n_layer")), said.get("num_attention_heads", said.get("n_head"))
    hidden = said.get("hidden_size", said.get("n_embd"))
    more: dict[str, Any] = {}
    if kind == "mixtral":
        more = {
            "num_moe_experts": said["num_local_experts"], "moe_router_topk": said["num_experts_per_tok"],
            "moe_token_dispatcher_type": "allgather", "moe_router_load_balancing_type": "none", "moe_router_pre_softmax": False,
        }  # fmt: skip
    if pp > 1 and layers % pp:
        more["num_layers_in_first_pipeline_stage"] = -(-layers // pp)
        if pp > 2:
            more["num_layers_in_last_pipeline_stage"] = layers // pp
    if kind == "mistral" and said.get("sliding_window"):
        more["window_size"] = (said["sliding_window"] - 1, 0)
    config = TransformerConfig(
        num_layers=layers, hidden_size=hidden, num_attention_heads=heads, num_query_groups=said.get("num_key_value_heads") or heads,
        kv_channels=said.get("head_dim") or hidden // heads, ffn_hidden_size=said.get("intermediate_size") or 4 * hidden,
        normalization="LayerNorm" if gpt2 else "RMSNorm", layernorm_epsilon=said.get("rms_norm_eps", said.get("layer_norm_epsilon")),
        gated_linear_unit=not gpt2, activation_func=gelu if gpt2 else torch.nn.functional.silu, add_bias_linear=gpt2,
        add_qkv_bias=gpt2 or kind == "qwen2", qk_layernorm=kind == "qwen3", hidden_dropout=0.0, attention_dropout=0.0,
        use_cpu_initialization=True, perform_initialization=False, apply_rope_fusion=False, bias_activation_fusion=False,
        masked_softmax_fusion=False, bias_dropout_fusion=False, gradient_accumulation_fusion=False, persist_layer_norm=False,
        pipeline_dtype=torch.float32, params_dtype=torch.float32,
        tensor_model_parallel_size=parallel_state.get_tensor_model_parallel_world_size(), pipeline_model_parallel_size=pp,
        attention_softmax_in_fp32=True, **more,
    )  # fmt: skip
    spec = get_gpt_layer_local_spec(
        num_experts=said.get("num_local_experts"), qk_layernorm=kind == "qwen3", normalization=None if gpt2 else "RMSNorm"
    )
    if kind == "mixtral":  # with TransformerEngine's layers the norm before experts keeps its own name, which is what is written
        from megatron.core.transformer.moe import moe_utils

        spec.submodules.sharded_state_dict_keys_map.pop("pre_mlp_layernorm.")
        moe_utils.te_general_gemm = getattr(moe_utils, "te_general_gemm", None)  # 0.16.1 asks for it, though TransformerEngine is not there
    return GPTModel(
        config, spec, vocab_size=words, max_sequence_length=said.get("max_position_embeddings", said.get("n_positions")),
        pre_process=parallel_state.is_pipeline_first_stage(), post_process=parallel_state.is_pipeline_last_stage(), parallel_output=False,
        share_embeddings_and_output_weights=bool(said.get("tie_word_embeddings", gpt2)),
        position_embedding_type="learned_absolute" if gpt2 else "rope",
        rotary_base=int((said.get("rope_parameters") or {}).get("rope_theta", said.get("rope_theta", 10000))),
    )  # fmt: skip


def gelu(x: Any) -> Any:
    import torch

    return torch.nn.functional.gelu(x, approximate="tanh")


def load(net: Any, folder: Path, form: str) -> None:
    """The checkpoint's tensors into the model: every one that the model has has to be there, and no other may be."""
    import torch
    from megatron.core import parallel_state

    if form == "dist":
        from megatron.core import dist_checkpointing

        state, missing, unexpected = dist_checkpointing.load(
            {"model": net.sharded_state_dict()}, str(folder), strict=dist_checkpointing.validation.StrictHandling.RETURN_ALL
        )
        lost = {n for n in (*missing, *unexpected) if "_extra_state" not in n}
        assert not lost, f"missing or unexpected: {sorted(lost)}"
        assert state["args"].num_layers == net.config.num_layers
        held = state["model"]
    else:
        name = f"mp_rank_{parallel_state.get_tensor_model_parallel_rank():02}"
        if parallel_state.get_pipeline_model_parallel_world_size() > 1:
            name += f"_{parallel_state.get_pipeline_model_parallel_rank():03}"
        held = torch.load(folder / name / "model_optim_rng.pt", weights_only=False)["model"]
    done = net.load_state_dict(held, strict=False)
    lost = {n for n in (*done.missing_keys, *done.unexpected_keys) if "_extra_state" not in n}
    assert not lost, f"missing or unexpected: {sorted(lost)}"


def logits(net: Any, ids: Any, words: int) -> dict[str, Any]:
    """The last stage's answer; each stage hands its own to the next."""
    import torch
    from megatron.core import parallel_state as p

    batch, n = ids.shape
    tp, stage = p.get_tensor_model_parallel_world_size(), p.get_pipeline_model_parallel_rank()
    rank = torch.distributed.get_rank()
    if not net.pre_process:
        before = torch.empty(n, batch, net.config.hidden_size)
        torch.distributed.recv(before, rank - tp)
        net.set_input_tensor(before)
    mask = torch.triu(torch.ones(1, 1, n, n), 1).bool()
    if net.config.window_size:
        mask |= torch.tril(torch.ones(1, 1, n, n), -net.config.window_size[0] - 1).bool()
    with torch.no_grad():
        found = net(ids, torch.arange(n).expand(batch, n), mask)
    if net.post_process:
        return {"logits": found.numpy()}
    assert stage < p.get_pipeline_model_parallel_world_size() - 1
    torch.distributed.send(found.contiguous(), rank + tp)
    return {}


if __name__ == "__main__":
    main()
