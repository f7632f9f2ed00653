"""`ckptkit report`: what the page says, that nothing in a file gets further into it than as text, and how it behaves in Chromium."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from chromium import Page, browser
from safetensors.numpy import save_file
from test_measure import by_hand
from trained import LAYER, saved, trained

VALUE = LAYER.format(2) + "attention.self.value.weight"
WIDE = LAYER.format(1) + "intermediate.dense.weight"
HOSTILE = (
    "</script><script>window.taken=1</script>", "<img src=x onerror=window.taken=1>", '"><svg onload=window.taken=1>',
    "'; window.taken=1; '",
    "{{script}}.{{data}}", "&lt;b&gt;&amp;", "<!--", "]]>", "javascript:window.taken=1",
    "a\u2028b\u2029c", "\u202egnp.exe", "${window.taken=1}",
    "__proto__.polluted", "constructor.0.x", "h.1.</style><style>*{display:none}",
)  # fmt: skip


def report(*args: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "ckptkit", "report", *map(str, args)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == status, done.stderr
    return done


def data_of(page: Path) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT that looks trained, and the same with a NaN, a matrix of zeros and a layer forty times as large."""
    root = tmp_path_factory.mktemp("berts")
    arrays = trained()
    saved(root / "healthy", arrays)
    arrays[VALUE][5, 17] = np.nan
    arrays[WIDE][:] = 0
    for n in [n for n in arrays if n.startswith(LAYER.format(3))]:
        arrays[n] = arrays[n] * np.float32(40)
    saved(root / "damaged", arrays)
    return root


@pytest.fixture(scope="module")
def damaged(folder: Path) -> Path:
    report(folder / "damaged", "-o", folder / "damaged.html")
    return folder / "damaged.html"


@pytest.fixture
def page(damaged: Path) -> Iterator[Page]:
    with Page(browser()) as p:
        p.open(damaged)
        yield p
        assert p.said == [] and p.asked == [damaged.resolve().as_uri()]  # no refusal, no error, nothing fetched


# --- without a browser -----------------------------------------------------------------------------------------------------------


def test_facts_findings_and_flow_are_there_without_the_script(damaged: Path) -> None:
    text = damaged.read_text(encoding="utf-8")
    static = text.split('<script type="application/json"')[0]
    for word in (
        "BERT (hf, safetensors), 5 layers",
        VALUE,
        'href="#rule-nan"',
        'id="rule-nan"',
        "One NaN in a weight",
        "<svg",
        "encoder.layers.0-4",
        "ckptkit1:",
    ):
        assert word in static, word


def test_the_policy_allows_the_style_and_the_script_by_their_hashes_and_nothing_else(damaged: Path) -> None:
    from base64 import b64encode
    from hashlib import sha256
    from html import unescape

    text = damaged.read_text(encoding="utf-8")
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])  # type: ignore[index]
    words = dict(part.split(" ", 1) for part in policy.split("; "))
    assert words["default-src"] == words["base-uri"] == words["form-action"] == "'none'" and len(words) == 5
    for tag, word in (("style", "style-src"), ("script", "script-src")):
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[-1]
        assert words[word] == f"'sha256-{b64encode(sha256(inside.encode()).digest()).decode()}'"
    assert not re.search(r'(src|href)="(?!#)', text) and "url(" not in text and "@import" not in text


def test_the_page_is_the_same_each_time_and_holds_numpys_figures(folder: Path, damaged: Path) -> None:
    report(folder / "damaged", "-o", folder / "again.html", "--jobs", "1")
    assert (folder / "again.html").read_text() == damaged.read_text()
    found = data_of(damaged)
    t, arrays = found["t"], trained()
    assert len(t["name"]) == len(arrays) and t["nan"] == {str(t["name"].index(VALUE)): 1}
    i = t["name"].index("embeddings.word_embeddings.weight")
    x = arrays[t["name"][i]].astype("f8")
    assert t["rms"][i] == pytest.approx(float(np.sqrt((x**2).mean())), rel=1e-4)
    assert t["shape"][i] == list(x.shape) and sum(t["histogram"][i]) + sum(t["outside"].get(str(i), [0])) == x.size
    assert (found["words"]["stack"][t["stack"][i]], t["layer"][i]) == ("embeddings", None)


def test_two_checkpoints_show_what_changed(folder: Path) -> None:
    report(folder / "healthy", folder / "damaged", "-o", folder / "two.html")
    found = data_of(folder / "two.html")
    t, roles = found["t"], found["words"]["role"]
    kinds = {n: roles[r] for n, r in zip(t["name"], t["role"], strict=True)}
    changed = {n for n, k in kinds.items() if k == "changed"}
    assert changed == {n for n in kinds if ".3." in n} | {
        "encoder.layers.2.attention.value.weight",
        "encoder.layers.1.ffn.intermediate.weight",
    }
    assert [t["name"][int(i)] for i in t["nan"]] == ["encoder.layers.2.attention.value.weight"]
    at = t["name"].index("encoder.layers.3.ffn.output.weight")
    assert t["relative"][at] == pytest.approx(39, rel=1e-3) and t["turn"][at] == pytest.approx(0, abs=1e-6)


def test_a_folder_has_a_page_for_each_and_an_index(folder: Path, tmp_path: Path) -> None:
    (folder / "broken").mkdir(exist_ok=True)
    (folder / "broken" / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      " + b"x" * 40)
    report(folder, "-o", tmp_path / "pages")
    index = (tmp_path / "pages" / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'<a href="([^"#]+)"', index)
    assert links == ["damaged.html", "healthy.html"] and all((tmp_path / "pages" / n).exists() for n in links)
    assert "broken" in index and "<script>" in index and data_of(tmp_path / "pages" / "damaged.html")["t"]["name"]
    assert "-o FOLDER" in report(folder, "-o", tmp_path / "x.html", status=2).stderr


def test_usage_is_said(folder: Path, tmp_path: Path) -> None:
    assert "-o page.html" in report(folder / "healthy", status=2).stderr
    assert "one checkpoint, or of two" in report("a", "b", "c", "-o", tmp_path / "x.html", status=2).stderr
    done = report(folder / "healthy", "-o", folder / "healthy" / "model.safetensors", status=2)
    assert "input" in done.stderr
    assert report(folder / "healthy", "-q", "-o", tmp_path / "x.html").stderr == ""
    assert "sample" in report(folder / "healthy", folder / "damaged", "--sample", "0.5", "-o", tmp_path / "x.html", status=2).stderr


def test_a_sample_says_that_it_is_one(folder: Path, tmp_path: Path) -> None:
    report(folder / "damaged", "--sample", "0.5", "-o", tmp_path / "x.html")
    assert "figures of about 50 % of each large tensor" in (tmp_path / "x.html").read_text()


# --- in Chromium -----------------------------------------------------------------------------------------------------------------


def test_the_nan_the_zeros_and_the_large_layer_are_seen(page: Page) -> None:
    script = """[...document.querySelectorAll('.heat td[data-i]')].map(c => [c.className, c.textContent, c.title])"""
    cells = page.run(script)
    nan = [c for c in cells if "nan" in c[0].split()]
    zero = [c for c in cells if "zero" in c[0].split()]
    large = [c for c in cells if c[0] == "f4"]
    assert [(c[1], "layers.2.attention.value.weight" in c[2]) for c in nan] == [("NaN", True)]
    assert [(c[1], "layers.1.ffn.intermediate.weight" in c[2]) for c in zero] == [("0", True)]
    assert len(large) == 16 and all(".layers.3." in c[2] for c in large)
    arrays = trained()
    rms = [float(np.sqrt(np.square(arrays[f"{LAYER.format(i)}attention.self.key.weight"]).mean())) for i in range(5)]
    rms[3] *= 40
    want = round(rms[3] / float(np.median(rms)))
    assert next(c[1] for c in large if "attention.key.weight" in c[2]) == f"×{want}"
    assert {c[0] for c in cells if ".layers." in c[2]} <= {"nan", "zero", "f4", "f0", "f1", "f-1"}


def test_every_statistic_can_be_chosen(page: Page) -> None:
    choose = "(s) => { const e = document.getElementById('statistic'); e.value = s; e.dispatchEvent(new Event('change')); }"
    for name in page.run("[...document.getElementById('statistic').options].map(o => o.value)"):
        page.run(f"({choose})({json.dumps(name)})")
        assert page.run("document.querySelectorAll('.heat td[data-i]').length") == 16 * 5 + 7
        assert page.run("document.querySelectorAll('.heat td.nan').length") == 1


def test_keys_alone_lead_everywhere(page: Page) -> None:
    page.run("document.querySelector('.heat td[tabindex=\"0\"]').focus()")
    before = page.run("document.activeElement.title")
    page.key("ArrowRight", 39)
    page.key("ArrowDown", 40)
    after = page.run("document.activeElement.title")
    assert "layers.0.attention.key.bias" in before and "layers.1.attention.key.weight" in after
    assert page.run("document.getElementById('readout').textContent") == after
    page.key("Enter", 13)
    assert page.run("document.getElementById('detail').open")
    assert page.run("document.getElementById('detail-name').textContent") == LAYER.format(1) + "attention.self.key.weight"
    page.key("Escape", 27)
    assert not page.run("document.getElementById('detail').open")
    page.key("/", 191, "/")
    assert page.run("document.activeElement.id") == "search"
    page.call("Input.insertText", text="layer.4 query")
    assert page.run("document.getElementById('count').textContent") == "1–2 of 2"
    page.run("document.querySelector('.map g').focus()")
    page.key("Enter", 13)
    assert page.run("document.getElementById('search').value") != "layer.4 query"
    assert "of 5" in page.run("document.getElementById('count').textContent")  # the largest module, in five layers


def test_the_table_sorts_by_every_column(page: Page) -> None:
    names = "[...document.querySelectorAll('#rows tbody tr')].map(r => r.querySelector('.open').textContent)"
    click = "(w) => [...document.querySelectorAll('#rows thead button')].find(b => b.textContent.startsWith(w)).click()"
    page.run(f"({click})('bytes')")
    assert page.run(names)[0] == "embeddings.word_embeddings.weight"
    assert page.run("document.querySelector('#rows th[aria-sort]').getAttribute('aria-sort')") == "descending"
    page.run(f"({click})('NaN')")
    assert page.run(names)[0] == VALUE
    page.run(f"({click})('tensor')")
    assert page.run(names)[:2] == sorted(page.run(names))[:2]
    page.run(f"({click})('rms')")
    assert ".3." in page.run(names)[0]


def test_the_tables_fit_the_page_and_layers_follow_their_numbers(damaged: Path, tmp_path: Path) -> None:
    fits = "(e => e.scrollWidth <= e.clientWidth)(document.getElementById('rows').closest('.scroll'))"
    with Page(browser(), width=1200, height=900) as p:
        p.open(damaged)
        assert p.run(fits)
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        x = {f"layer.{k}.weight": np.full((4, 4), k + (side == "b"), "f4") for k in range(12)}
        save_file(x, tmp_path / side / "model.safetensors")
    report(tmp_path / "a", tmp_path / "b", "-o", tmp_path / "change.html")
    names = "[...document.querySelectorAll('#rows tbody tr')].map(r => r.querySelector('.open').textContent)"
    with Page(browser(), width=1200, height=900) as p:
        p.open(tmp_path / "change.html")
        assert p.run(names) == [f"layer.{k}.weight" for k in range(12)] and p.run(fits)


def test_light_and_dark_and_paper(damaged: Path) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    with Page(browser()) as light, Page(browser(), dark=True) as dark:
        light.open(damaged)
        dark.open(damaged)
        assert light.run(colour) != dark.run(colour)
        for p in (light, dark):  # the cells that matter differ from the others in both
            found = p.run("['nan', 'f4', 'f0'].map(c => getComputedStyle(document.querySelector('.heat td.' + c)).backgroundColor)")
            assert len(set(found)) == 3
        light.call("Emulation.setEmulatedMedia", media="print")
        assert light.run("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert light.print().startswith(b"%PDF")


def test_no_name_gets_further_than_text(tmp_path: Path) -> None:
    x = np.linspace(-1, 1, 12, dtype="f4").reshape(3, 4)
    by_hand(tmp_path / "m" / "model.safetensors", dict.fromkeys(HOSTILE, ("F32", x)))
    (tmp_path / "m" / "config.json").write_text(
        json.dumps({"model_type": HOSTILE[0], "architectures": [HOSTILE[1]], HOSTILE[2]: HOSTILE[3]})
    )
    report(tmp_path / "m", "-o", tmp_path / "m.html")
    report(tmp_path / "m", tmp_path / "m", "-o", tmp_path / "mm.html")
    for name in (HOSTILE[1], "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        save_file({"a.0.w": x}, tmp_path / "runs" / name / "model.safetensors")
    report(tmp_path / "runs", "-o", tmp_path / "pages")
    with Page(browser()) as p:
        p.open(tmp_path / "pages" / "index.html")
        links = p.run("[...document.querySelectorAll('main a')].map(a => [a.textContent, a.getAttribute('href')])")
        assert links[0][0] == HOSTILE[1] and re.fullmatch(r"[\w.-]+\.html", links[0][1]) and (tmp_path / "pages" / links[0][1]).exists()
        assert p.run("typeof window.taken + document.querySelectorAll('img').length") == "undefined0" and p.said == []
    for name in ("m.html", "mm.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text.count("<script") == 2 and text.count("</script>") == 2 and "window.taken=1</script>" not in text
        with Page(browser()) as p:
            p.open(tmp_path / name)
            shown = p.run("[...document.querySelectorAll('#rows .open')].map(e => e.textContent)")
            assert set(shown) == set(HOSTILE)
            p.run("document.querySelectorAll('#rows .open').forEach(e => { e.click(); document.getElementById('detail').close(); })")
            p.run("document.querySelectorAll('.map g').forEach(e => e.dispatchEvent(new MouseEvent('click')))")
            assert p.run("[typeof window.taken, typeof {}.polluted, document.querySelectorAll('img, iframe, object').length]") == [
                "undefined",
                "undefined",
                0,
            ]
            assert p.said == [] and p.asked == [(tmp_path / name).resolve().as_uri()]


def test_twenty_thousand_tensors_are_under_six_megabytes_and_found_at_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {}
    for layer in range(200):
        for part in ("attention.self.query", "attention.self.key", "mlp.experts.up", "mlp.experts.down"):
            for n in range(25):
                tensors[f"model.decoder.layers.{layer}.{part}.{n}.weight"] = ("F32", rng.standard_normal(8).astype("f4") * 0.02)
    by_hand(tmp_path / "m.safetensors", tensors)
    report(tmp_path / "m.safetensors", "-o", tmp_path / "m.html")
    assert len(tensors) == 20_000 and (tmp_path / "m.html").stat().st_size < 6e6
    search = """(words) => { const e = document.getElementById('search'), start = performance.now(); e.value = words;
        e.dispatchEvent(new Event('input')); document.body.getBoundingClientRect(); return performance.now() - start; }"""
    with Page(browser()) as p:
        p.open(tmp_path / "m.html")
        for words, count in (
            ("layers.117. query", "1–25 of 25"),
            ("up 24.weight", "1–50 of 200"),
            ("nothing", "none"),
            ("", "1–50 of 20,000"),
        ):
            took = min(p.run(f"({search})({json.dumps(words)})") for _ in range(3))
            assert p.run("document.getElementById('count').textContent") == count and took < 200
        assert p.said == []


def test_a_known_model_of_any_family_has_a_picture_of_its_flow(tmp_path: Path) -> None:
    t5 = oracles.golden("hf_t5") / "safetensors"
    svg = subprocess.run(
        [sys.executable, "-m", "ckptkit", "summary", str(t5), "--flow", "--format", "svg"], capture_output=True, text=True, check=True
    ).stdout
    from xml.etree import ElementTree

    root = ElementTree.fromstring(svg)
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"input_ids", "decoder_input_ids", "encoder.layers.0-2  (3 x)", "lm output"} <= set(texts)
    boxes = [
        (float(e.get("x", "")), float(e.get("y", "")), float(e.get("width", ""))) for e in root.iter("{http://www.w3.org/2000/svg}rect")
    ]
    for k, (x, y, w) in enumerate(boxes):  # no box over another
        assert not [b for b in boxes[:k] if b[1] == y and b[0] < x + w and x < b[0] + b[2]]
