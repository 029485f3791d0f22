// A JSON value as a tree that opens where one looks, so that a large one costs nothing until then.

import { button, element } from "./dom.js";
import { visible } from "./text.js";

const AT_A_TIME = 100;
const TEXT_SHOWN = 2_000;
const OPEN_DEPTH = 2;
const OPEN_ENTRIES = 20;

/** The value as indented JSON; of one that is nested too deeply for the browser's own writer, a sentence. */
export function pretty(value) {
  try {
    return JSON.stringify(value, null, 2) ?? "";
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return "This value is nested too deeply to be written out.";
  }
}

/** The value as an element. */
export function jsonTree(value) {
  return element("div", { class: "tree" }, node(null, value, 0));
}

function node(name, value, depth) {
  const label = name === null ? null : element("span", { class: "tree-name" }, `${visible(name)}: `);
  if (value === null || typeof value !== "object") return element("div", {}, label, leaf(value));
  const entries = Array.isArray(value) ? value.map((one, i) => [String(i), one]) : Object.entries(value);
  const count = Array.isArray(value) ? `[${entries.length}]` : `{${entries.length}}`;
  if (!entries.length) return element("div", {}, label, element("span", { class: "muted" }, Array.isArray(value) ? "[]" : "{}"));
  const inside = element("div", { class: "tree-inside" });
  const details = element("details", {}, element("summary", {}, label, element("span", { class: "muted" }, count)), inside);
  let drawn = 0;
  const more = button("", draw, { class: "small" });
  function draw() {
    const next = entries.slice(drawn, drawn + AT_A_TIME);
    drawn += next.length;
    more.remove();
    inside.append(...next.map(([key, one]) => node(key, one, depth + 1)));
    const left = entries.length - drawn;
    more.textContent = `Show ${Math.min(left, AT_A_TIME)} more of ${left}`;
    if (left) inside.append(more);
  }
  details.addEventListener("toggle", () => details.open && drawn === 0 && draw());
  if (depth < OPEN_DEPTH && entries.length <= OPEN_ENTRIES) {
    draw();
    details.open = true;
  }
  return details;
}

function leaf(value) {
  if (typeof value !== "string") return element("span", { class: "tree-word" }, String(value));
  const cut = value.length > TEXT_SHOWN;
  const shown = element("span", { class: "tree-text" }, `"${visible(value.slice(0, TEXT_SHOWN))}${cut ? "…" : '"'}`);
  return cut ? element("span", {}, shown, element("span", { class: "muted" }, ` (${value.length} characters)`)) : shown;
}
