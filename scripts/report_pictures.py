"""Makes the pictures of docs/report.md: pages of a healthy and of a damaged BERT, and of what changed between them, in headless Chromium.

    python scripts/report_pictures.py [FOLDER]      the default is docs/pictures

The damage is a NaN in layer 7, a matrix of zeros in layer 3, and layer 9 forty times as large. Needs Chromium (Debian: chromium).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from chromium import Page, browser  # noqa: E402

from ckptkit.graph.examine import examine  # noqa: E402
from ckptkit.report.page import page_of, page_of_two  # noqa: E402
from ckptkit.scan.survey import NOTHING_MORE  # noqa: E402
from ckptkit.verbs.diff import diff  # noqa: E402
from ckptkit.verbs.overview import overview, overview_of  # noqa: E402

LAYERS, HIDDEN, INTERMEDIATE, VOCAB = 12, 96, 384, 2000
LAYER = "bert.encoder.layer.{}."
Arrays = dict[str, np.ndarray]


def healthy() -> Arrays:
    """A BERT with directions that stand out of the noise, as training leaves them."""
    rng = np.random.default_rng(20)

    def matrix(rows: int, columns: int) -> np.ndarray:
        noise = rng.standard_normal((rows, columns)) * (1 + 0.3 * rng.random(columns))
        return ((noise + rng.standard_normal((rows, 4)) @ rng.standard_normal((4, columns)) / 2) * rng.uniform(0.027, 0.034)).astype("f4")

    def vector(n: int) -> np.ndarray:
        return (rng.standard_normal(n) * 0.05).astype("f4")

    out = {f"bert.embeddings.{n}_embeddings.weight": matrix(k, HIDDEN) for n, k in (("word", VOCAB), ("position", 128), ("token_type", 2))}
    shapes = dict.fromkeys(
        ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"), (HIDDEN, HIDDEN)
    )
    shapes |= {"intermediate.dense": (INTERMEDIATE, HIDDEN), "output.dense": (HIDDEN, INTERMEDIATE)}
    norms = ["bert.embeddings.LayerNorm"]
    for i in range(LAYERS):
        for name, shape in shapes.items():
            out[f"{LAYER.format(i)}{name}.weight"], out[f"{LAYER.format(i)}{name}.bias"] = matrix(*shape), vector(shape[0])
        norms += [LAYER.format(i) + "attention.output.LayerNorm", LAYER.format(i) + "output.LayerNorm"]
    for n in norms:
        out[n + ".weight"], out[n + ".bias"] = 1 + vector(HIDDEN), vector(HIDDEN)
    out["bert.pooler.dense.weight"], out["bert.pooler.dense.bias"] = matrix(HIDDEN, HIDDEN), vector(HIDDEN)
    return out


def damaged() -> Arrays:
    """The same with a NaN, a matrix of zeros, and a layer forty times as large."""
    out = healthy()
    out[LAYER.format(7) + "attention.self.value.weight"][5, 17] = np.nan
    out[LAYER.format(3) + "intermediate.dense.weight"][:] = 0
    for n in [n for n in out if n.startswith(LAYER.format(9))]:
        out[n] = out[n] * np.float32(40)
    return out


def saved(folder: Path, arrays: Arrays) -> Path:
    folder.mkdir()
    config = {
        "model_type": "bert", "architectures": ["BertModel"], "vocab_size": VOCAB, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "intermediate_size": INTERMEDIATE, "max_position_embeddings": 128, "type_vocab_size": 2,
        "hidden_act": "gelu", "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def main() -> None:
    target = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "docs" / "pictures"
    target.mkdir(parents=True, exist_ok=True)
    chromium = browser()
    with tempfile.TemporaryDirectory() as held:
        os.chdir(held)  # so that the pages name no place of this machine
        folder = Path()
        one, two = saved(folder / "bert-healthy", healthy()), saved(folder / "bert-damaged", damaged())
        pages = {"report-healthy": page_of(overview(one)), "report-damaged": page_of(overview(two))}
        for name, html in pages.items():
            (folder / f"{name}.html").write_text(html, encoding="utf-8")
        with examine(one) as a, examine(two) as b:
            d = diff(a, b)
            html = page_of_two(*(overview_of(s, str(p), NOTHING_MORE, figures=False) for s, p in ((a, one), (b, two))), d)
        (folder / "report-change.html").write_text(html, encoding="utf-8")
        for name, section in (
            ("report-healthy", "layers"),
            ("report-damaged", ""),
            ("report-damaged", "layers"),
            ("report-change", "layers"),
        ):
            with Page(chromium, width=1180, height=760) as page:
                page.open(folder / f"{name}.html")
                if page.said:
                    raise SystemExit(f"{name}: {page.said}")
                if section:
                    page.run(f"document.getElementById('{section}').scrollIntoView()")
                page.picture(target / f"{name}{'-' + section if section else ''}.png")


if __name__ == "__main__":
    main()
