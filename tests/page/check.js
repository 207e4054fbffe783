"use strict";
// Looks at a page in a frame as a person would: is everything drawn, readable and inside the window, do its controls work?
// The verdict is the list of what is wrong, empty if nothing is.
const wrong = [];
const frame = document.getElementById("frame");
const demand = (ok, what) => { if (!ok) wrong.push(what); };

function luminance(rgb) {
  const part = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  return 0.2126 * part(rgb[0]) + 0.7152 * part(rgb[1]) + 0.0722 * part(rgb[2]);
}
const numbers = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
// The first opaque background behind an element.
function behind(win, node) {
  for (; node; node = node.parentElement) {
    const c = numbers(win.getComputedStyle(node).backgroundColor);
    if (c.length && (c.length < 4 || c[3] === 1)) return c;
  }
  return [255, 255, 255];
}
function contrast(win, node, colour) {
  const [a, b] = [luminance(numbers(colour)), luminance(behind(win, node))];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

function inside(win, doc, when) {
  demand(doc.documentElement.scrollWidth <= win.innerWidth, `${when}: ${doc.documentElement.scrollWidth} pixels wide in ${win.innerWidth}`);
  for (const section of doc.querySelectorAll("header, section")) {
    const box = section.getBoundingClientRect();
    demand(box.left >= 0 && box.right <= win.innerWidth + 1, `${when}: section "${section.textContent.slice(0, 20)}" from ${box.left} to ${box.right}`);
  }
}

function readable(win, doc) {
  for (const node of doc.querySelectorAll("h1, h2, p, b, span, td, th, summary, dt, dd, button, select, svg text")) {
    if (!node.textContent.trim() || !node.getClientRects().length) continue;
    const style = win.getComputedStyle(node);
    const c = contrast(win, node, node.closest("svg") ? style.fill : style.color);
    demand(c >= 4.5, `contrast ${c.toFixed(2)} of <${node.tagName}> "${node.textContent.slice(0, 30)}"`);
    if (wrong.length > 20) return;
  }
}

function type(win, doc, text) {
  doc.getElementById("search").value = text;
  doc.getElementById("search").dispatchEvent(new win.Event("input"));
}

function look() {
  const win = frame.contentWindow, doc = frame.contentDocument, all = (css) => [...doc.querySelectorAll(css)];
  const data = JSON.parse(doc.getElementById("data").textContent);
  demand(win.innerWidth === want.width, `the frame is ${win.innerWidth} wide`);
  demand(win.matchMedia("(prefers-color-scheme: dark)").matches === want.dark, `not dark: ${want.dark}`);
  demand((luminance(behind(win, doc.body)) < 0.2) === want.dark, "the background is not of the colour scheme");
  demand(win.performance.getEntriesByType("resource").length === 0, "loads something");
  demand(doc.getElementById("title").textContent === data.title, "no title");
  for (const [i, plan] of data.plans.entries()) {
    const name = plan.name, button = all("#phases button")[i];
    button.click();
    demand(button.getAttribute("aria-pressed") === "true", `${name}: its button is not pressed`);
    demand(all("#arena rect.buf").length === plan.buffers.length, `${name}: ${all("#arena rect.buf").length} rectangles of ${plan.buffers.length} buffers`);
    demand(all("#table tr").length === plan.cmds.length + 1, `${name}: rows of the table`);
    // Hovering a rectangle shows its name, size and life.
    const [buffer, title] = [plan.buffers[0], all("#arena rect.buf title")[0].textContent];
    demand(title.startsWith(`${buffer[0]}: `) && /\d B|iB/.test(title) && title.endsWith(`c${buffer[3]} to c${buffer[4]}`), `${name}: ${title}`);
    const area = doc.querySelector("#arena svg").getBoundingClientRect();
    for (const r of all("#arena rect.buf")) {
      const b = r.getBoundingClientRect();
      demand(b.width > 0 && b.left >= area.left - 1 && b.right <= area.right + 1 && b.top >= area.top - 1 && b.bottom <= area.bottom + 1, `${name}: a rectangle outside the arena`);
      if (wrong.length > 20) return;
    }
    demand(all("#memory .stack i").length >= 4 && all("#types .stack i").length === plan.by_type.length, `${name}: memory or types`);
    demand(all("#roof circle").length > 0, `${name}: no roofline`);
    // Layers alike are one entry, which opens, and every layer can be chosen in it.
    const folded = all("#graph details"), alike = folded.find((d) => d.querySelector("select"));
    demand(folded.length < plan.n_layer + 2, `${name}: ${folded.length} entries for ${plan.n_layer} layers`);
    for (const d of folded) d.open = true;
    const shown = alike.querySelectorAll("g.cmd").length;
    demand(shown > 3, `${name}: ${shown} commands in a layer`);
    const choice = alike.querySelector("select"), before = alike.querySelector("svg").textContent;
    choice.value = choice.options[choice.options.length - 1].value;
    choice.dispatchEvent(new win.Event("change"));
    demand(alike.querySelector("svg").textContent !== before && alike.querySelectorAll("g.cmd").length === shown, `${name}: the last layer does not open`);
    inside(win, doc, `${name}, all open`);
    // A box shows its command; the table and the graph mark it.
    alike.querySelector("g.cmd").dispatchEvent(new win.MouseEvent("click", { bubbles: true }));
    const facts = doc.getElementById("command").textContent;
    for (const part of ["kernel", "reads", "makes", "from", "forecast"]) demand(facts.includes(part), `${name}: no ${part} in ${facts.slice(0, 60)}`);
    demand(all("#table tr.hit").length === 1 && all("#graph g.cmd.on").length === 1, `${name}: the chosen command is not marked`);
    // One layer of the arena.
    const zoom = doc.getElementById("zoom");
    zoom.value = "0";
    zoom.dispatchEvent(new win.Event("change"));
    const few = all("#arena rect.buf").length;
    demand(few > 0 && few < plan.buffers.length, `${name}: ${few} rectangles in one layer`);
    zoom.value = "";
    zoom.dispatchEvent(new win.Event("change"));
    // Search finds what has the word and nothing else.
    const has = plan.cmds.filter((c) => c.kernel.includes("attention")).length;
    type(win, doc, "cpu.attention");
    demand(has > 0 && all("#table tr").length === has + 1, `${name}: search shows ${all("#table tr").length - 1} of ${has}`);
    type(win, doc, "no such thing");
    demand(all("#table tr").length === 1 && doc.getElementById("found").textContent === "0 commands", `${name}: search finds nothing`);
    type(win, doc, "");
    inside(win, doc, `${name}, a command chosen`);
    readable(win, doc);
  }
}

frame.addEventListener("load", () => {
  frame.contentWindow.addEventListener("error", (e) => wrong.push(e.message));
  try { look(); } catch (e) { wrong.push(`${e}`); }
  const verdict = document.createElement("pre");
  verdict.id = "verdict";
  verdict.textContent = JSON.stringify(wrong);
  document.body.replaceChildren(verdict);
});
