"""bert4torch as judge: it loads what is written for it of each of its own checkpoints, and gives the outputs that it gave.

Needs an environment of its own (CKPTKIT_ORACLE_ENVS=1 builds it).
"""

from __future__ import annotations

import json
from pathlib import Path

import oracles
from library_words import BERT4TORCH

import ckptkit

ROOT = oracles.FIXTURES / "made" / "bert4torch"
# what is written in another naming than transformers' own for the family: bert4torch reads other names there, or no library has others
NAMING = {"ernie": "bert4torch", "bart": "bert4torch", "gpt2_ml": "bert4torch", "roformer_v2": "bert4torch", "uie": "hf_bert"}
LOAD = """
import json, sys
import numpy as np
sys.path.insert(0, sys.argv[2])
import torch
from bert4torch.layers import layer_norm
from bert4torch.models import build_transformer_model
# its RoFormer v2 subtracts a mean that its authors' norm has not
layer_norm.RoformerV2LayerNorm._normalize = lambda self, x, **k: x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
def flat(found):
    if torch.is_tensor(found):
        return [found.numpy()]
    return [a for x in (found.values() if isinstance(found, dict) else found) for a in flat(x)]
off = {}
for key, (config, weights, made, options) in json.loads(sys.argv[1]).items():
    torch.manual_seed(5)  # of what a checkpoint lacks, and there is nothing
    model = build_transformer_model(config_path=config, checkpoint_path=weights, verbose=0, **options).eval()
    with np.load(made + "/inputs.npz") as f:
        given = {n: torch.from_numpy(f[n]) for n in f.files}
    with torch.no_grad():
        found = flat(model(*([a] for a in given.values())) if "decoder_input_ids" in given else model(*given.values()))
    with np.load(made + "/outputs.npz") as f:
        off[key] = max(float(np.abs(a - f[n]).max()) for a, n in zip(found, f.files, strict=True))
print(json.dumps(off))
"""
ANY_WORD = """
def __getattr__(word):
    if word.startswith("__"):
        raise AttributeError(word)
    return type(word, (), {})
"""


def test_bert4torch_loads_what_is_written_for_it_and_gives_its_outputs(tmp_path: Path) -> None:
    python = oracles.environment("bert4torch", "bert4torch==0.6.2", "torch==2.13.0", "pillow", "httpx", "transformers==5.23.0")
    for package in ("", "transforms", "transforms/v2", "transforms/v2/functional"):  # which its models of pictures import
        folder = tmp_path / "stubs" / "torchvision" / package
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(ANY_WORD)
    asked = {}
    for key, said in BERT4TORCH.items():
        made, out, naming = ROOT / key.replace(".", "_"), tmp_path / key, NAMING.get(key, "hf")
        ckptkit.convert(made, out, to=naming)
        config = out / "bert4torch_config.json"
        own = config.exists()  # which says what the model is made of, not which heads are wanted
        options = {k: said[k] for k in ("with_mlm",) if own and k in said}
        weights = next(p for p in out.iterdir() if p.suffix in (".safetensors", ".bin"))
        asked[key] = (str(config if own else made / config.name), str(weights), str(made), options)
    off = json.loads(oracles.run_in(python, LOAD, json.dumps(asked), tmp_path / "stubs").splitlines()[-1])
    assert off.keys() == BERT4TORCH.keys() and {k: d for k, d in off.items() if d > 1e-6} == {}
