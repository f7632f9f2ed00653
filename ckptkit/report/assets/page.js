"use strict";
// Everything shown comes from the data below as text: nothing is parsed as HTML, and nothing is fetched.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

function make(tag, attributes, ...children) {
  const svg = ["svg", "g", "rect", "path", "text", "line", "title"].includes(tag);
  const e = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [k, v] of Object.entries(attributes || {})) {
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (v !== null && v !== undefined && v !== false) e.setAttribute(k, v === true ? "" : v);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined && c !== ""));
  return e;
}

function figure(v) {
  if (v === null || v === undefined) return "–";
  if (v === 0 || Number.isInteger(v)) return v.toLocaleString("en");
  const a = Math.abs(v);
  return a >= 1e5 || a < 1e-4 ? v.toExponential(3) : String(Number(v.toPrecision(4)));
}

function bytes(n) {
  let i = 0;
  while (n >= 999.5 && i < 4) { n /= 1000; i += 1; }
  return `${i ? n.toFixed(1) : n} ${["B", "kB", "MB", "GB", "TB"][i]}`;
}

// --- the tensors -----------------------------------------------------------------------------------------------------

const t = data.t;
const count = t.name.length;
const stack = (i) => data.words.stack[t.stack[i]];
const module_ = (i) => data.words.module[t.module[i]];
const dtype = (i) => data.words.dtype[t.dtype[i]];
const role = (i) => data.words.role[t.role[i]];
const sparse = (column, i) => column[i] || 0;  // most tensors have none
const inLayers = (i) => t.layer[i] !== null;
const elements = (i) => t.shape[i].reduce((a, b) => a * b, 1);
const canonical = (i) => [stack(i), inLayers(i) ? t.layer[i] : "", module_(i)].filter((x) => x !== "").join(".");

function range(n) { return Array.from({ length: n }, (_, i) => i); }

function median(values) {
  const v = values.filter((x) => x !== null && Number.isFinite(x)).sort((a, b) => a - b);
  return v.length ? (v[(v.length - 1) >> 1] + v[v.length >> 1]) / 2 : null;
}

// --- colours: classes of the style sheet, so that both schemes have their own ----------------------------------------------

const STEPS = [1.4, 2, 4, 8];
function factorClass(f) {
  const up = f >= 1 ? f : 1 / f;
  const k = STEPS.filter((s) => up >= s).length;
  return k ? `f${f >= 1 ? "" : "-"}${k}` : "f0";
}
function factorWords(f) { return f >= 1 ? `${figure(Number(f.toPrecision(3)))} times` : `1/${figure(Number((1 / f).toPrecision(3)))} of`; }
function factorLabel(f) {
  if (f >= 1.4) return `×${f >= 10 ? (f >= 1000 ? f.toExponential(0) : Math.round(f)) : f.toFixed(1)}`;
  if (f <= 1 / 1.4) return `÷${1 / f >= 10 ? (1 / f >= 1000 ? (1 / f).toExponential(0) : Math.round(1 / f)) : (1 / f).toFixed(1)}`;
  return "";
}
function changeClass(v) {  // a relative change: a step for each power of ten from 1e-7 on
  return v === 0 ? "s0" : `s${Math.max(1, Math.min(8, 8 + Math.floor(Math.log10(v))))}`;
}

// --- heat maps -----------------------------------------------------------------------------------------------------------

const ONE = {
  rms: ["root mean square", (i) => t.rms[i]],
  deviation: ["standard deviation", (i) => t.deviation[i]],
  largest: ["largest absolute value", (i) => t.largest[i]],
  mean: ["mean, absolute", (i) => (t.mean[i] === null ? null : Math.abs(t.mean[i]))],
  spread: ["1st to 99th percentile", (i) => (t.p1[i] === null ? null : t.p99[i] - t.p1[i])],
  minimum: ["minimum, absolute", (i) => (t.minimum[i] === null ? null : Math.abs(t.minimum[i]))],
  maximum: ["maximum, absolute", (i) => (t.maximum[i] === null ? null : Math.abs(t.maximum[i]))],
  zeros: ["share of zeros", (i) => sparse(t.zeros, i) / Math.max(1, elements(i))],
};
const TWO = {
  relative: ["relative change |A−B| / |A|", (i) => t.relative[i]],
  cosine: ["1 − cosine", (i) => t.turn[i]],
  share: ["share of elements that differ", (i) => t.changed[i]],
};
const two = data.kind === "two";
const CHOICES = two ? TWO : ONE;

// Rows of a map: the modules of a stack; experts and the like, which have a number of their own, share a row.
function rowsOf(indices, nameOf) {
  const rows = new Map();
  for (const i of indices) {
    const name = nameOf(i).replace(/(^|[._/])\d+(?=[._/]|$)/g, "$1*");
    if (!rows.has(name)) rows.set(name, new Map());
    const cells = rows.get(name);
    if (!cells.has(t.layer[i])) cells.set(t.layer[i], []);
    cells.get(t.layer[i]).push(i);
  }
  const order = new Intl.Collator("en", { numeric: true });
  return [...rows].sort((a, b) => order.compare(a[0], b[0]));
}

// What a cell shows of its tensors (many where experts share it): the one that is furthest from the median.
function cellOf(tensors, value, middle) {
  const bad = tensors.find((i) => sparse(t.nan || {}, i) || sparse(t.inf || {}, i));
  if (bad !== undefined) {
    if (two) return { i: bad, type: "nan", label: "NaN", words: "NaN or infinite on one side only" };
    const nan = sparse(t.nan, bad), word = nan ? "NaN" : "Inf";
    return { i: bad, type: "nan", label: word, words: `${(nan || sparse(t.inf, bad)).toLocaleString("en")} ${word}` };
  }
  if (two) return changeCell(tensors, value);
  const empty = tensors.find((i) => t.largest[i] === 0 && elements(i) > 0);
  if (empty !== undefined && middle) return { i: empty, type: "zero", label: "0", words: "all zero" };
  const known = tensors.filter((i) => value(i) !== null);
  if (!known.length) return { i: tensors[0], type: "none", label: "", words: "no figures" };
  const off = (i) => (middle && value(i) > 0 ? Math.abs(Math.log(value(i) / middle)) : value(i) === middle ? 0 : Infinity);
  const i = known.reduce((a, b) => (off(b) > off(a) ? b : a));
  const v = value(i), f = middle ? v / middle : v ? Infinity : 1;
  if (!Number.isFinite(f) || f === 0) return { i, type: v ? "f4" : middle ? "f-4" : "f0", label: v ? "" : middle ? "0" : "", words: figure(v) };
  return { i, type: factorClass(f), label: factorLabel(f), words: `${figure(v)}, ${factorWords(f)} the row's median` };
}
function changeCell(tensors, value) {
  const odd = tensors.find((i) => !["same", "changed", "retyped"].includes(role(i)));
  if (odd !== undefined) {
    const label = { added: "+", removed: "−", reshaped: "↔" }[role(odd)] || "?";
    return { i: odd, type: "other", label, words: role(odd) };
  }
  const i = tensors.reduce((a, b) => (value(b) > value(a) ? b : a));
  const v = value(i);
  const label = v === 0 ? "" : v >= 0.0095 ? (v >= 0.995 ? (v < 9.5 ? v.toFixed(1) : v < 999.5 ? String(Math.round(v)) : v.toExponential(0)) : `.${String(Math.round(v * 100)).padStart(2, "0")}`) : "";
  return { i, type: changeClass(v), label, words: v === 0 ? "the same" : figure(v) };
}

function heatMap(name, indices, value, nameOf) {
  const layers = [...new Set(indices.map((i) => t.layer[i]))].sort((a, b) => a - b);
  const single = layers.length === 1 && layers[0] === null;
  const every = layers.length > 48 ? 10 : layers.length > 24 ? 4 : 1;
  const head = make("tr", {}, make("th", { scope: "col" }, "module"));
  layers.forEach((n, k) => head.append(make("th", { scope: "col", "aria-label": single || !(k % every) ? null : `layer ${n}` }, single ? "value" : k % every ? "·" : String(n))));
  const body = make("tbody", {});
  for (const [title, cells] of rowsOf(indices, nameOf)) {
    const middle = single ? null : median([...cells.values()].flat().map(value));
    const row = make("tr", {}, make("th", { scope: "row" }, title));
    for (const n of layers) {
      const tensors = cells.get(n);
      if (!tensors) { row.append(make("td", { class: "none", "aria-label": `${title}, layer ${n}: not there` })); continue; }
      const cell = cellOf(tensors, value, middle);
      const shown = single && !two && cell.type !== "nan" ? (t.largest && t.largest[cell.i] === 0 ? "0" : figure(value(cell.i))) : cell.label;
      const type = single && !two && cell.type !== "nan" ? (t.largest[cell.i] === 0 ? "zero" : "f0") : cell.type;
      const words = `${canonical(cell.i)}: ${single && !two && type !== "nan" ? shown : cell.words}`;
      row.append(make("td", { class: type + (single ? " single" : ""), tabindex: -1, title: words, "aria-label": shown ? `${shown}, ${words}` : words, "data-i": cell.i }, shown));
    }
    body.append(row);
  }
  const table = make("table", { class: `heat${layers.length > 48 ? " small" : ""}`, role: "grid", "aria-label": `${name || "outside of layers"}: modules by layers` },
    make("thead", {}, head), body);
  const first = table.querySelector("td[tabindex]");
  if (first) first.tabIndex = 0;
  table.addEventListener("keydown", move);
  table.addEventListener("click", (e) => { const c = e.target.closest("td[data-i]"); if (c) open_(Number(c.dataset.i)); });
  for (const what of ["mouseover", "focusin"]) {
    table.addEventListener(what, (e) => { const c = e.target.closest("td[data-i]"); if (c) byId("readout").textContent = c.title; });
  }
  return make("div", { class: "scroll" }, table);
}

// Arrow keys go from cell to cell; Enter opens the tensor.
function move(e) {
  const cell = e.target.closest("td[data-i]");
  const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[e.key];
  if (!cell) return;
  if (e.key === "Enter" || e.key === " ") { e.preventDefault(); open_(Number(cell.dataset.i)); return; }
  if (!step) return;
  e.preventDefault();
  const rows = [...cell.closest("tbody").rows];
  let r = rows.indexOf(cell.parentElement), c = cell.cellIndex;
  for (let k = 0; k < 500; k += 1) {
    r += step[0]; c += step[1];
    const next = rows[r] && rows[r].cells[c];
    if (!next || next.tagName === "TH") return;
    if (next.dataset.i !== undefined) { cell.tabIndex = -1; next.tabIndex = 0; next.focus(); return; }
  }
}

function legend() {
  const of = (type, label, words) => make("span", {}, make("i", { class: type }, label), words);
  if (two) {
    return make("p", { class: "legend" }, of("s0", "", "the same"), of("s1", "", "below 10⁻⁶"), of("s3", "", "10⁻⁵"), of("s5", "", "10⁻³"), of("s6", "", "1 %"),
      of("s7", "", "10 %"), of("s8", "", "100 % and more"), of("other", "+", "only in B"), of("other", "−", "only in A"), of("other", "↔", "another shape"), of("nan", "NaN", "not finite on one side"));
  }
  return make("p", { class: "legend" }, of("f-4", "", "1/8 and less"), of("f-3", "", "1/4"), of("f-2", "", "1/2"), of("f-1", "", "1/1.4"), of("f0", "", "the row's median"),
    of("f1", "", "× 1.4"), of("f2", "", "× 2"), of("f3", "", "× 4"), of("f4", "", "× 8 and more"), of("zero", "0", "all zero"), of("nan", "NaN", "NaN or infinite"));
}

function drawMaps() {
  const place = byId("maps");
  if (!place) return;
  const value = CHOICES[byId("statistic").value][1];
  const groups = new Map();
  for (const i of range(count)) {
    if (t.map[i] === 0) continue;
    const key = inLayers(i) ? stack(i) : "";
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(i);
  }
  const parts = [];
  for (const [key, indices] of [...groups].sort((a, b) => (a[0] === "") - (b[0] === ""))) {
    const outside = key === "";
    if (outside && indices.length > 60) indices.length = 60;
    parts.push(make("h3", {}, outside ? "outside of layers" : key));
    parts.push(heatMap(outside ? "" : key, indices, value, outside ? canonical : module_));
  }
  place.replaceChildren(legend(), ...parts);
}
// --- treemap ---------------------------------------------------------------------------------------------------------------

// Squarified: rows of boxes as near to squares as they can be (Bruls, Huizing, van Wijk, 2000).
function squarify(items, x, y, w, h) {
  const out = [];
  let rest = items.filter((d) => d.size > 0).sort((a, b) => b.size - a.size);
  let total = rest.reduce((s, d) => s + d.size, 0);
  while (rest.length) {
    const side = Math.min(w, h), scale = (w * h) / total;
    let n = 1, sum = rest[0].size, worst = Infinity;
    for (let k = 1; k <= rest.length; k += 1) {
      const s = rest.slice(0, k).reduce((a, d) => a + d.size, 0);
      const wide = (s * scale) / side;
      const ratio = Math.max(...rest.slice(0, k).map((d) => { const l = (d.size * scale) / wide; return Math.max(l / wide, wide / l); }));
      if (ratio > worst) break;
      worst = ratio; n = k; sum = s;
    }
    const wide = (sum * scale) / side;
    let at = 0;
    for (const d of rest.slice(0, n)) {
      const l = (d.size * scale) / wide;
      out.push(w >= h ? { ...d, x, y: y + at, w: wide, h: l } : { ...d, x: x + at, y, w: l, h: wide });
      at += l;
    }
    if (w >= h) { x += wide; w -= wide; } else { y += wide; h -= wide; }
    total -= sum; rest = rest.slice(n);
  }
  return out;
}

function drawTree() {
  const place = byId("tree");
  if (!place) return;
  const W = 1100, H = 460, TITLE = 20;
  const stacks = new Map();
  for (const i of range(count)) {
    const s = stack(i) || "(no stack)", m = `${module_(i).replace(/(^|[._/])\d+(?=[._/]|$)/g, "$1*")}\u0000${dtype(i)}`;
    if (!stacks.has(s)) stacks.set(s, new Map());
    const inside = stacks.get(s);
    if (!inside.has(m)) inside.set(m, { size: 0, n: 0, first: i });
    const d = inside.get(m);
    d.size += t.bytes[i]; d.n += 1;
  }
  const kinds = data.words.dtype;
  const svg = make("svg", { viewBox: `0 0 ${W} ${H}`, class: "map", role: "group", "aria-label": "Bytes by module; Enter lists the tensors" });
  const outer = [...stacks].map(([name, inside]) => ({ name, inside, size: [...inside.values()].reduce((a, d) => a + d.size, 0) }));
  const total = outer.reduce((a, d) => a + d.size, 0);
  for (const o of squarify(outer, 0, 0, W, H)) {
    const titled = o.h > 2.4 * TITLE && o.w > 70;
    if (titled) svg.append(make("text", { x: o.x + 4, y: o.y + 14, class: "b" }, fit(`${o.name}  ${bytes(o.size)}`, o.w - 8)));
    const top = titled ? TITLE : 0;
    const items = [...o.inside].map(([key, d]) => ({ ...d, module: key.split("\u0000")[0], kind: key.split("\u0000")[1] }));
    for (const d of squarify(items, o.x, o.y + top, o.w, o.h - top)) {
      const words = `${o.name} ${d.module}: ${bytes(d.size)} in ${d.n} tensor${d.n === 1 ? "" : "s"}, ${d.kind}, ${(100 * d.size / total).toFixed(1)} %`;
      const go = () => search(`${o.name === "(no stack)" ? "" : o.name} ${d.module.includes("*") ? "" : d.module}`.trim());
      const g = make("g", { tabindex: 0, role: "button", "aria-label": words, onclick: go, onkeydown: (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); go(); } } },
        make("title", {}, words),
        make("rect", { x: d.x, y: d.y, width: Math.max(d.w, 0.5), height: Math.max(d.h, 0.5), class: `d${kinds.indexOf(d.kind) % 8}` }));
      svg.append(g);
      if (d.w > 54 && d.h > 18) svg.append(make("text", { x: d.x + 5, y: d.y + 15, "aria-hidden": "true" }, fit(titled ? d.module : `${o.name} ${d.module}`, d.w - 10)));
      if (d.w > 54 && d.h > 36) svg.append(make("text", { x: d.x + 5, y: d.y + 30, "aria-hidden": "true" }, fit(bytes(d.size), d.w - 10)));
    }
  }
  const sums = kinds.map((k, j) => [k, j, range(count).reduce((a, i) => a + (t.dtype[i] === j ? t.bytes[i] : 0), 0)]).filter((s) => s[2] > 0);
  place.replaceChildren(make("div", { class: "scroll" }, svg),
    make("p", { class: "legend" }, ...sums.map(([k, j, n]) => make("span", {}, make("i", { class: `d${j % 8}` }), `${k}: ${bytes(n)}`))));
}
function fit(text, width) {
  const most = Math.floor(width / 6.6);
  return text.length <= most ? text : most > 3 ? `${text.slice(0, most - 1)}…` : "";
}

// --- the table ---------------------------------------------------------------------------------------------------------------

const PAGE = 50;
const state = { found: range(count), from: 0, by: null, down: true, text: "" };
const haystack = range(count).map((i) => [t.name[i], canonical(i), dtype(i), role(i)].join("\n").toLowerCase());
const COLUMNS = two
  ? [["name", "parameter", null], ["role", "what", null], ["dtype", "dtype", null], ["shape", "shape", elements], ["relative", "relative change", (i) => t.relative[i]],
    ["cosine", "1 − cosine", (i) => t.turn[i]], ["changed", "elements that differ", (i) => t.changed[i]], ["largest", "largest |A−B|", (i) => t.far[i]]]
  : [["name", "tensor", null], ["histogram", "histogram", null], ["dtype", "dtype", null], ["shape", "shape", elements], ["bytes", "bytes", (i) => t.bytes[i]], ["minimum", "minimum", (i) => t.minimum[i]],
    ["maximum", "maximum", (i) => t.maximum[i]], ["mean", "mean", (i) => t.mean[i]], ["deviation", "deviation", (i) => t.deviation[i]], ["rms", "rms", (i) => t.rms[i]],
    ["zeros", "zeros", (i) => sparse(t.zeros, i)], ["bad", "NaN, Inf", (i) => sparse(t.nan, i) + sparse(t.inf, i)]];

function histogramOf(i) {  // counts: as they are, or in 62 steps where there are many tensors
  const h = t.histogram && t.histogram[i];
  if (!h) return null;
  const LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  return typeof h === "string" ? [...h].map((c) => LETTERS.indexOf(c)) : h;
}
function bars(counts, w, h) {
  const most = Math.max(...counts, 1), each = w / counts.length;
  let d = "";
  counts.forEach((n, k) => {
    if (!n) return;
    const high = Math.max(1, (n / most) * h);
    d += `M${(k * each).toFixed(2)} ${h}v${(-high).toFixed(2)}h${Math.max(each - 0.4, 0.6).toFixed(2)}v${high.toFixed(2)}z`;
  });
  return d;
}
function spark(i) {
  const whole = histogramOf(i);
  if (!whole) return "";
  const counts = whole.length === 64 ? range(32).map((k) => whole[2 * k] + whole[2 * k + 1]) : whole;
  return make("svg", { class: "spark", viewBox: "0 0 96 20", width: 96, height: 20, role: "img", "aria-label": `histogram from ${figure(t.low[i])} to ${figure(t.high[i])}` },
    make("path", { d: bars(counts, 96, 20) }));
}

// A name that may be broken after its dots and the like, and reads the same.
function breakable(text) {
  return (text.match(/[^._/]+[._/]*|[._/]+/g) || []).flatMap((part, k) => (k ? [make("wbr"), part] : [part]));
}

function cells(i) {
  const name = make("td", { class: "name" }, make("button", { class: "open mono", onclick: () => open_(i) }, ...breakable(t.name[i])));
  const n = (v) => make("td", { class: "n" }, figure(v));
  const shape = make("td", { class: "n" }, t.shape[i].length ? t.shape[i].join(" × ") : "scalar");
  if (two) return [name, make("td", {}, role(i)), make("td", {}, dtype(i)), shape, n(t.relative[i]), n(t.turn[i]), n(t.changed[i]), n(t.far[i])];
  const bad = sparse(t.nan, i) + sparse(t.inf, i);
  return [name, make("td", {}, spark(i)), make("td", {}, dtype(i)), shape, make("td", { class: "n" }, bytes(t.bytes[i])), n(t.minimum[i]), n(t.maximum[i]), n(t.mean[i]), n(t.deviation[i]), n(t.rms[i]),
    n(sparse(t.zeros, i)), make("td", { class: `n${bad ? " flag" : ""}` }, bad ? bad.toLocaleString("en") : "0")];
}

function drawRows() {
  const shown = state.found.slice(state.from, state.from + PAGE);
  const head = make("tr", {}, ...COLUMNS.map(([key, title, by]) => {
    const sorted = state.by === key ? (state.down ? "descending" : "ascending") : null;
    const mark = sorted ? (state.down ? " ▾" : " ▴") : "";
    const numeric = by !== null && key !== "name";
    if (key === "histogram") return make("th", { scope: "col" }, title);
    return make("th", { scope: "col", class: numeric ? "n" : "", "aria-sort": sorted }, make("button", { onclick: () => sortBy(key) }, title + mark));
  }));
  byId("rows").replaceChildren(make("thead", {}, head), make("tbody", {}, ...shown.map((i) => make("tr", {}, ...cells(i)))));
  const n = state.found.length;
  byId("count").textContent = n ? `${(state.from + 1).toLocaleString("en")}–${(state.from + shown.length).toLocaleString("en")} of ${n.toLocaleString("en")}` : "none";
  byId("previous").disabled = state.from === 0;
  byId("next").disabled = state.from + PAGE >= n;
}
function filter() {
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  state.found = range(count).filter((i) => words.every((w) => haystack[i].includes(w)));
  order();
}
function order() {
  const column = COLUMNS.find((c) => c[0] === state.by);
  if (column) {
    const by = column[2], sign = state.down ? -1 : 1;
    const collator = new Intl.Collator("en", { numeric: true });
    const text = { name: (i) => t.name[i], dtype, role }[column[0]];
    state.found.sort((a, b) => {
      if (!by) return sign * collator.compare(text(a), text(b));
      const x = by(a), y = by(b);
      return x === y ? a - b : x === null || x === undefined ? 1 : y === null || y === undefined ? -1 : sign * (x - y);
    });
  } else state.found.sort((a, b) => a - b);
  state.from = 0;
  drawRows();
}
function sortBy(key) {
  state.down = state.by === key ? !state.down : key !== "name";
  state.by = key;
  order();
  const again = [...document.querySelectorAll("#rows thead button")].find((b) => b.textContent.startsWith(COLUMNS.find((c) => c[0] === key)[1]));
  if (again) again.focus();
}
function search(text) {
  byId("search").value = text;
  state.text = text;
  filter();
  byId("tensors").scrollIntoView({ block: "start" });
}

// --- one tensor ---------------------------------------------------------------------------------------------------------------

function open_(i) {
  const counts = histogramOf(i);
  const facts = [["parameter", canonical(i)], ["what", role(i)], ["type", dtype(i)], ["shape", t.shape[i].length ? t.shape[i].join(" × ") : "scalar"], ["elements", elements(i).toLocaleString("en")]];
  if (two) facts.push(["relative change", figure(t.relative[i])], ["1 − cosine", figure(t.turn[i])], ["elements that differ", figure(t.changed[i])], ["largest |A−B|", figure(t.far[i])]);
  else {
    facts.push(["bytes", t.bytes[i].toLocaleString("en")], ["minimum, maximum", `${figure(t.minimum[i])} to ${figure(t.maximum[i])}`], ["mean", figure(t.mean[i])],
      ["deviation, rms", `${figure(t.deviation[i])}, ${figure(t.rms[i])}`], ["1st, 50th, 99th percentile", `${figure(t.p1[i])}, ${figure(t.p50[i])}, ${figure(t.p99[i])}`],
      ["zeros", sparse(t.zeros, i).toLocaleString("en")], ["NaN, infinite", `${sparse(t.nan, i).toLocaleString("en")}, ${sparse(t.inf, i).toLocaleString("en")}`]);
    const out = t.outside[i];
    if (out) facts.push(["left and right of the picture", `${out[0].toLocaleString("en")}, ${out[1].toLocaleString("en")}`]);
  }
  const picture = counts ? make("svg", { class: "big", viewBox: "0 0 640 190", role: "img", "aria-label": `histogram from ${figure(t.low[i])} to ${figure(t.high[i])}` },
    make("path", { d: bars(counts, 640, 165) }), make("line", { x1: 0, x2: 640, y1: 165, y2: 165 }), make("text", { x: 0, y: 183 }, figure(t.low[i])),
    make("text", { x: 320, y: 183, "text-anchor": "middle" }, figure((t.low[i] + t.high[i]) / 2)), make("text", { x: 640, y: 183, "text-anchor": "end" }, figure(t.high[i]))) : null;
  const list = make("dl", { class: "facts" });
  for (const [k, v] of facts) list.append(make("dt", {}, k), make("dd", {}, v));
  const dialog = byId("detail");
  dialog.replaceChildren(make("button", { class: "close", onclick: () => dialog.close() }, "Close"), make("h2", { id: "detail-name", class: "mono" }, t.name[i]), picture || "", list);
  dialog.showModal();
}
byId("detail").addEventListener("click", (e) => { if (e.target === e.currentTarget) e.currentTarget.close(); });

// --- start -----------------------------------------------------------------------------------------------------------------------

if (byId("statistic")) {
  byId("statistic").replaceChildren(...Object.entries(CHOICES).map(([k, [words]]) => make("option", { value: k }, words)));
  byId("statistic").addEventListener("change", drawMaps);
  drawMaps();
}
drawTree();
if (byId("search")) {
  byId("search").addEventListener("input", (e) => { state.text = e.target.value; filter(); });
  byId("previous").addEventListener("click", () => { state.from = Math.max(0, state.from - PAGE); drawRows(); });
  byId("next").addEventListener("click", () => { state.from += PAGE; drawRows(); });
  document.addEventListener("keydown", (e) => {
    if (e.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName) && !byId("detail").open) { e.preventDefault(); byId("search").focus(); }
  });
  drawRows();
}
