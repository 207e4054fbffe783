"use strict";
// Draws the plans in the element "data". Text from files only ever becomes text nodes.
const page = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
let plan, needle = "", chosen = -1, zoom = "";

function el(parent, tag, attrs = {}, text) {
  const node = parent instanceof SVGElement || tag === "svg" ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [k, v] of Object.entries(attrs)) node.setAttribute(k, v);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}
const clear = (id) => { const n = $(id); n.replaceChildren(); return n; };
function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < 4) { n /= 1024; i++; }
  return (i ? n.toFixed(n < 10 ? 2 : 1) : n) + " " + units[i];
}
function scaled(n, unit) {
  for (const [f, p] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) if (n >= f) return (n / f).toPrecision(3) + " " + p + unit;
  return n.toPrecision(3) + " " + unit;
}
const seconds = (s) => s >= 1 ? s.toFixed(2) + " s" : s >= 1e-3 ? (s * 1e3).toFixed(2) + " ms" : (s * 1e6).toFixed(1) + " µs";
// One colour per kind of op, in the order of first use over all plans, so that both phases agree.
const kinds = [...new Set(page.plans.flatMap((p) => p.cmds.map((c) => c.op)))];
const colour = (op) => `var(--c${kinds.indexOf(op) % 8})`;
const types = [...new Set(page.plans.flatMap((p) => p.by_type.map((t) => t[0])))];
const matches = (c) => needle !== "" && c.hay.includes(needle);

function stack(parent, rows, show) {
  const total = rows.reduce((a, r) => a + r[1], 0) || 1;
  const bar = el(parent, "div", { class: "stack" });
  const key = el(parent, "div", { class: "key" });
  for (const [name, n, fill] of rows) {
    if (!n) continue;
    el(bar, "i", { style: `width:${(100 * n) / total}%;background:${fill}`, title: `${name}: ${show(n)}` });
    const k = el(key, "span");
    el(k, "i", { style: `background:${fill}` });
    k.append(`${name} ${show(n)} (${((100 * n) / total).toFixed(1)} %)`);
  }
}

function cards() {
  const box = clear("cards"), t = plan.totals;
  const card = (value, what) => { const c = el(box, "div", { class: "card" }); el(c, "b", {}, value); el(c, "span", {}, what); };
  card(bytes(t.weight_bytes), `weights in ${plan.n_weights} tensors`);
  card(bytes(t.kv_bytes), `cache per sequence of ${plan.n_ctx} tokens`);
  card(bytes(t.arena_bytes), `arena (least possible ${bytes(t.arena_bound)}, unshared ${bytes(t.arena_naive)})`);
  card(`${t.ops_before} → ${t.ops_after}`, "ops before fusion, commands after");
  card(String(t.barriers), "meetings of the team");
  card(scaled(t.work.ops, "op"), `in a step of ${plan.max_rows} rows at full context`);
  if (plan.forecast) card(scaled(plan.forecast.rows_per_second, "tok/s"), `at best, ${plan.forecast.what}`);
}

function memory() {
  const t = plan.totals, box = clear("memory");
  stack(box, [["weights", t.weight_bytes, "var(--c0)"], ["cache", t.kv_bytes, "var(--c1)"], ["arena", t.arena_bytes, "var(--c2)"],
    ["scratch", t.scratch_bytes * plan.threads, "var(--c3)"], ["logits", t.logits_bytes, "var(--c4)"],
    ["tokenizer", t.tokenizer_bytes, "var(--c5)"]], bytes);
  el(box, "p", { class: "note" }, `scratch for ${plan.threads} thread${plan.threads > 1 ? "s" : ""}, one sequence`);
  stack(clear("types"), plan.by_type.map(([name, n]) => [name, n, `var(--c${types.indexOf(name) % 8})`]), bytes);
}

function arena() {
  const box = clear("arena"), W = 1000, H = 340, left = 62, low = 22;
  const ids = [...plan.cmds.keys()].filter((i) => zoom === "" || plan.cmds[i].layer === +zoom);
  const from = ids[0] || 0, n = Math.max(1, ids.length), top = Math.max(1, plan.totals.arena_bytes);
  const x = (c) => left + ((W - left) * Math.min(n, Math.max(0, c - from))) / n, y = (o) => H - low - ((H - low - 8) * o) / top;
  const svg = el(box, "svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Buffers of the arena over time" });
  for (let i = 0; i <= 4; i++) {
    el(svg, "line", { class: "grid", x1: left, x2: W, y1: y((top * i) / 4), y2: y((top * i) / 4) });
    el(svg, "text", { class: "dim", x: left - 6, y: y((top * i) / 4) + 4, "text-anchor": "end" }, bytes(Math.round((top * i) / 4)));
  }
  for (const b of plan.buffers) {
    const [name, offset, size, first, last] = b, c = plan.cmds[first];
    if (last < from || first >= from + n) continue;
    const r = el(svg, "rect", { class: "buf" + (needle && name.toLowerCase().includes(needle) ? " hit" : ""), x: x(first), width: Math.max(1, x(last + 1) - x(first)),
      y: y(offset + size), height: Math.max(0.5, y(offset) - y(offset + size)), fill: colour(c.op), "fill-opacity": 0.85 });
    el(r, "title", {}, `${name}: ${bytes(size)} at ${offset}, c${first} to c${last}`);
    if (zoom !== "" && y(offset) - y(offset + size) > 12) el(svg, "text", { x: x(first) + 4, y: y(offset + size) + 12, "pointer-events": "none" }, name);
    r.addEventListener("click", () => choose(first));
  }
  if (zoom !== "") for (const i of ids) el(svg, "text", { class: "dim", x: x(i) + 2, y: H - 6 }, `c${i}`);
  else for (const [i, c] of plan.cmds.entries()) {
    const before = i ? plan.cmds[i - 1].layer : null;
    if (c.layer !== before && c.layer >= 0 && (plan.n_layer <= 8 || c.layer % Math.ceil(plan.n_layer / 8) === 0)) el(svg, "text", { class: "dim", x: x(i), y: H - 6 }, `layer ${c.layer}`);
  }
  $("arena-note").textContent = `${plan.buffers.length} buffers; ${bytes(plan.totals.arena_naive)} would be needed if none shared memory.`;
}

// Layers of the same shape are one entry: "layers 1 to 30 as layer 0".
function groups() {
  const list = [];
  for (const [i, c] of plan.cmds.entries()) {
    const last = list[list.length - 1];
    if (last && last.layer === c.layer) last.ids.push(i); else list.push({ layer: c.layer, ids: [i], same: [] });
  }
  const folded = [];
  for (const g of list) {
    g.shape = g.ids.map((i) => { const c = plan.cmds[i]; return c.kernel + c.args.concat(c.outs).map((o) => o.t + o.r + o.c).join(); }).join(";");
    const twin = g.layer >= 0 && folded.find((f) => f.shape === g.shape);
    if (twin) twin.same.push(g); else folded.push(g);
  }
  return folded;
}

function graph() {
  const box = clear("graph");
  for (const g of groups()) {
    const sum = (key) => g.ids.reduce((a, i) => a + plan.cmds[i][key], 0), layers = [g, ...g.same];
    const name = g.layer < 0 ? (g.ids[0] === 0 ? "before the layers" : "after the layers")
      : layers.length === 1 ? `layer ${g.layer}` : `${layers.length} layers alike: ${spans(layers.map((l) => l.layer))}`;
    const d = el(box, "details"), s = el(d, "summary");
    el(s, "b", {}, name);
    el(s, "span", { class: "note" }, `${g.ids.length} commands, ${bytes(sum("w"))} of weights, ${scaled(sum("ops"), "op")}${plan.forecast ? ", " + seconds(sum("s")) : ""}${layers.length > 1 ? " each" : ""}`);
    const pick = el(d, "div");
    const shown = layers.find((l) => l.ids.some((i) => matches(plan.cmds[i]) || i === chosen)) || g;
    if (layers.length > 1) {
      const bar = el(pick, "div", { class: "bar" });
      const choice = el(bar, "select", { class: "row-button", "aria-label": "Layer" });
      for (const l of layers) el(choice, "option", { value: l.layer }, `layer ${l.layer}`);
      choice.value = shown.layer;
      choice.addEventListener("change", () => { pick.lastChild.remove(); flow(pick, layers.find((l) => l.layer === +choice.value).ids); });
    }
    flow(pick, shown.ids);
    d.open = layers.some((l) => l.ids.some((i) => matches(plan.cmds[i]) || i === chosen)) || (!needle && chosen < 0 && g.layer === 0);
  }
}
function spans(list) {
  const out = [];
  for (const n of list) { const last = out[out.length - 1]; if (last && last[1] + 1 === n) last[1] = n; else out.push([n, n]); }
  return out.map(([a, b]) => (a === b ? `${a}` : `${a} to ${b}`)).join(", ");
}

// Commands top to bottom; a value's line goes from where it is made to where it is read, to the side if others lie between.
function flow(parent, ids) {
  const H = 58, B = 40, W = 520, left = 8, width = 380;
  const svg = el(parent, "svg", { viewBox: `0 0 ${W} ${ids.length * H + 6}`, style: `max-width:${W * 1.15}px` });
  const row = new Map(ids.map((id, i) => [id, i])), lanes = [];
  for (const id of ids) for (const a of plan.cmds[id].args) {
    const from = row.get(a.from), to = row.get(id);
    if (from === undefined) continue;
    const skip = to - from > 1;
    let path;
    if (skip) {
      let lane = lanes.findIndex((end) => end <= from);
      if (lane < 0) { lane = lanes.length; lanes.push(0); }
      lanes[lane] = to;
      const x = left + width + 16 + lane * 14;
      path = `M${left + width},${from * H + B - 8} C${x},${from * H + B - 8} ${x},${from * H + B} ${x},${from * H + B + 8} L${x},${to * H + 4} C${x},${to * H + 12} ${x},${to * H + 14} ${left + width},${to * H + 14}`;
    } else path = `M${left + 40},${from * H + B} L${left + 40},${to * H + 4}`;
    const line = el(svg, "path", { class: skip ? "edge skip" : "edge", d: path });
    el(line, "title", {}, `${a.n} ${a.t}[${a.r},${a.c}]`);
  }
  for (const id of ids) {
    const c = plan.cmds[id], y = row.get(id) * H + 4, g = el(svg, "g", { class: "cmd" + (id === chosen ? " on" : ""), tabindex: 0 });
    el(g, "rect", { class: "box" + (matches(c) ? " hit" : ""), x: left, y, width, height: B - 4, rx: 6 });
    el(g, "rect", { x: left, y, width: 5, height: B - 4, rx: 2, fill: colour(c.op) });
    el(g, "text", { x: left + 14, y: y + 15, "font-weight": 600 }, `c${id} ${c.op}`);
    const what = c.w ? bytes(c.w) : scaled(c.ops, "op");
    el(g, "text", { class: "dim", x: left + width - 8, y: y + 15, "text-anchor": "end" }, plan.forecast ? `${what}, ${seconds(c.s)}` : what);
    const label = c.outs.map((o) => o.n).join(", ");
    el(g, "text", { class: "dim", x: left + 14, y: y + 30 }, label.length > 62 ? label.slice(0, 60) + "…" : label);
    el(g, "title", {}, c.kernel + (c.rule ? `, made by ${c.rule}` : ""));
    g.addEventListener("click", () => choose(id));
    g.addEventListener("keydown", (e) => { if (e.key === "Enter") choose(id); });
  }
}

function choose(id) {
  chosen = id;
  const box = clear("command"), c = plan.cmds[id];
  box.className = "";
  const list = el(box, "dl", { class: "facts mono" });
  const fact = (k, v) => { el(list, "dt", {}, k); el(list, "dd", {}, v); };
  const operand = (o) => `${o.p} ${o.n}  ${o.t}[${o.r === "1" ? "" : o.r + ","}${o.c}]` + (o.g === "arena" || o.g === "step" ? ` at ${o.o}` : "");
  fact("command", `c${id}${c.barrier ? ", after a meeting of the team" : ""}`);
  fact("kernel", c.kernel);
  if (c.attrs !== "null") fact("attributes", c.attrs);
  c.args.forEach((o) => fact("reads", operand(o)));
  c.outs.forEach((o) => fact("makes", operand(o)));
  fact("from", c.src);
  if (c.rule) fact("fused by", c.rule);
  fact("work", `${scaled(c.ops, "op")}, ${bytes(c.w)} of weights, ${bytes(c.d)} of activations and cache`);
  if (plan.forecast) fact("forecast", `${seconds(c.s)}, bound by ${c.bound}`);
  if (c.scratch) fact("scratch", `${bytes(c.scratch)} per thread`);
  graph();
  table();
}

function work() {
  const rows = new Map();
  for (const c of plan.cmds) rows.set(c.op, (rows.get(c.op) || 0) + (plan.forecast ? c.s : c.w + c.d));
  const box = clear("kinds");
  stack(box, [...rows].sort((a, b) => b[1] - a[1]).map(([op, n]) => [op, n, colour(op)]), plan.forecast ? seconds : bytes);
  el(box, "p", { class: "note" }, plan.forecast ? "forecast time by kind of command" : "bytes touched by kind of command");
}

function roof() {
  const box = clear("roof"), L = page.limits;
  if (!L) { el(box, "p", { class: "note" }, "No limits of a machine are known: run quipu calibrate, or give --limits FILE."); return; }
  const W = 560, H = 310, left = 74, low = 44, pts = plan.cmds.map((c, i) => [c, i]).filter(([c]) => c.ops && c.mem);
  const peak = Math.max(L.byte_ops_per_second, L.float_ops_per_second);
  const x0 = -1.5, x1 = Math.max(3, ...pts.map(([c]) => Math.log10(c.ops / c.mem))) + 0.3;
  const y1 = Math.log10(peak) + 0.3, y0 = Math.min(...pts.map(([c]) => Math.log10(c.ops / c.s)), y1 - 3) - 0.2;
  const x = (v) => left + ((W - left - 8) * (Math.log10(v) - x0)) / (x1 - x0), y = (v) => H - low - ((H - low - 8) * (Math.log10(v) - y0)) / (y1 - y0);
  const svg = el(box, "svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Roofline" });
  for (let e = Math.ceil(y0); e <= y1; e++) { el(svg, "line", { class: "grid", x1: left, x2: W, y1: y(10 ** e), y2: y(10 ** e) }); el(svg, "text", { class: "dim", x: left - 6, y: y(10 ** e) + 4, "text-anchor": "end" }, scaled(10 ** e, "op/s")); }
  for (let e = Math.ceil(x0); e <= x1; e++) el(svg, "text", { class: "dim", x: x(10 ** e), y: H - 26, "text-anchor": "middle" }, `${10 ** e}`);
  el(svg, "text", { class: "dim", x: (W + left) / 2, y: H - 8, "text-anchor": "middle" }, "operations per byte of weights and cache");
  for (const [ops, name] of [[L.byte_ops_per_second, "byte products"], [L.float_ops_per_second, "f32 multiply-adds"]]) {
    const knee = ops / L.read_bytes_per_second, lo = 10 ** x0;
    el(svg, "path", { class: "edge", d: `M${x(lo)},${y(Math.max(10 ** y0, lo * L.read_bytes_per_second))} L${x(knee)},${y(ops)} L${W},${y(ops)}` });
    el(svg, "text", { class: "dim", x: W - 4, y: y(ops) - 4, "text-anchor": "end" }, `${name} ${scaled(ops, "op/s")}`);
  }
  for (const [c, i] of pts) {
    const dot = el(svg, "circle", { cx: x(c.ops / c.mem), cy: y(c.ops / c.s), r: i === chosen || matches(c) ? 6 : 3.5, fill: colour(c.op), "fill-opacity": 0.7 });
    el(dot, "title", {}, `c${i} ${c.op}: ${(c.ops / c.mem).toPrecision(3)} op/byte, ${seconds(c.s)}`);
    dot.addEventListener("click", () => choose(i));
  }
  el(box, "p", { class: "note" }, `${page.processor || "this machine"}, ${L.isa}, ${L.threads} threads, reads ${scaled(L.read_bytes_per_second, "B/s")}`);
}

function fusions() {
  const t = el(clear("fusions"), "table"), head = el(t, "tr");
  for (const [h, n] of [["rule", ""], ["fired", "n"], ["declined", "n"], ["why not (first place)", ""]]) el(head, "th", { class: n }, h);
  for (const [rule, fired, declined, why] of plan.fusions) {
    const r = el(t, "tr");
    el(r, "td", { class: "mono" }, rule); el(r, "td", { class: "n" }, fired); el(r, "td", { class: "n" }, declined); el(r, "td", { class: "full" }, why);
  }
}

function table() {
  const t = el(clear("table"), "table"), head = el(t, "tr");
  for (const [h, n] of [["", ""], ["kernel", ""], ["makes", ""], ["reads", ""], ["operations", "n"], ["weights", "n"], ["data", "n"], ["forecast", "n"], ["source", ""]]) el(head, "th", { class: n }, h);
  const names = (list) => list.map((o) => o.n).join(", ");
  for (const [i, c] of plan.cmds.entries()) {
    if (needle && !matches(c)) continue;
    const r = el(t, "tr", { class: i === chosen ? "hit" : "", style: "cursor:pointer" });
    el(r, "td", { class: "mono" }, (c.barrier ? "| " : "") + `c${i}`);
    el(r, "td", { class: "mono" }, c.kernel);
    el(r, "td", { class: "mono full" }, names(c.outs)); el(r, "td", { class: "mono full" }, names(c.args));
    for (const v of [scaled(c.ops, ""), bytes(c.w), bytes(c.d), plan.forecast ? seconds(c.s) : ""]) el(r, "td", { class: "n" }, v);
    el(r, "td", { class: "mono" }, c.src + (c.rule ? ` by ${c.rule}` : ""));
    r.addEventListener("click", () => choose(i));
  }
}

function search() {
  needle = $("search").value.trim().toLowerCase();
  const n = plan.cmds.filter(matches).length;
  $("found").textContent = needle ? `${n} command${n === 1 ? "" : "s"}` : "";
  graph(); table(); arena(); roof();
}
function show(i) {
  plan = page.plans[i]; chosen = -1; zoom = "";
  const choice = clear("zoom");
  el(choice, "option", { value: "" }, "all layers");
  for (const l of new Set(plan.cmds.map((c) => c.layer))) if (l >= 0) el(choice, "option", { value: l }, `layer ${l}`);
  for (const [j, b] of [...$("phases").children].entries()) b.setAttribute("aria-pressed", j === i);
  $("command").className = "note"; $("command").textContent = "Choose a box, a rectangle or a line to see it here.";
  cards(); memory(); work(); fusions(); search();
}
for (const p of page.plans) for (const c of p.cmds) c.hay = [c.kernel, c.op, c.rule, c.src, ...c.args.map((o) => o.n), ...c.outs.map((o) => o.n)].join(" ").toLowerCase();
$("title").textContent = page.title;
$("subtitle").textContent = page.subtitle;
page.plans.forEach((p, i) => el($("phases"), "button", { type: "button" }, p.name).addEventListener("click", () => show(i)));
$("search").addEventListener("input", search);
$("zoom").addEventListener("change", () => { zoom = $("zoom").value; arena(); });
show(0);
