// The playground's page: what is chosen on the left, the tool that is open on the right.

import { connectButton } from "./connect.js";
import { button, element } from "./dom.js";
import { picker, stateChip } from "./picker.js";
import { begin, choose, entriesNow, keyOf, onChange, read, serversNow, toolsOf } from "./selection.js";
import { oneLine, visible } from "./text.js";
import { ToolPanel } from "./tool-panel.js";

const LISTED_AT_ONCE = 200;
const WAIT_FOR_LISTS = 2_000;
const page = document.getElementById("playground");
const side = page.querySelector("[data-chosen]");
const place = page.querySelector("[data-tool]");
const nothing = page.querySelector("[data-nothing]");
const panels = new Map();
let open = null;
let wanted = askedFor();

const openPicker = picker(page.querySelector("dialog"));
for (const one of page.querySelectorAll("[data-add]")) one.addEventListener("click", openPicker);
onChange(draw);
// On a phone the lists stand above the tool: what is below them appears once they are there, and does not jump.
setTimeout(() => (page.dataset.begun = ""), WAIT_FOR_LISTS);
try {
  await begin({ user: page.dataset.user, csrf: page.dataset.csrf, serversUrl: page.dataset.servers });
  if (wanted) preselect();
  draw();
} catch (error) {
  side.replaceChildren(element("p", { class: "notice error", role: "alert" }, error.message));
  page.dataset.begun = "";
}

/** What the address names: `?server=<tenant>/<slug>&tool=<name>`. */
function askedFor() {
  const query = new URLSearchParams(location.search);
  return query.get("server") ? { server: query.get("server"), tool: query.get("tool") } : null;
}

function preselect() {
  const server = serversNow().find((one) => keyOf(one) === wanted.server);
  if (!server) {
    wanted = null;
    const gone = "The server in this page's address is none that you may use.";
    return page.querySelector("[data-word]").replaceChildren(element("p", { class: "notice warning", role: "status" }, gone));
  }
  const others = entriesNow().map(({ server: one, wanted: tools }) => ({ server: one, wanted: tools }));
  const mine = others.find((one) => keyOf(one.server) === wanted.server);
  if (!mine) others.unshift({ server, wanted: "all" });
  else if (wanted.tool && mine.wanted !== "all" && !mine.wanted.includes(wanted.tool)) mine.wanted = [...mine.wanted, wanted.tool];
  choose(others);
}

function draw() {
  const entries = entriesNow();
  const focused = document.activeElement?.dataset?.toolKey;
  side.replaceChildren(...entries.map(serverBox));
  if (focused) side.querySelector(`[data-tool-key="${CSS.escape(focused)}"]`)?.focus();
  if (wanted) {
    const entry = entries.find((one) => keyOf(one.server) === wanted.server);
    if (entry?.state === "ready") {
      const tool = toolsOf(entry).find((one) => one.name === wanted.tool);
      if (wanted.tool && !tool) {
        const gone = `${visible(entry.server.name)} has no tool “${visible(wanted.tool)}” for you.`;
        page.querySelector("[data-word]").replaceChildren(element("p", { class: "notice warning", role: "status" }, gone));
      }
      wanted = null;
      if (tool) show(entry.server, tool, false);
    }
  }
  if (open && !side.querySelector(`[data-tool-key="${CSS.escape(open)}"]`)) show(null);
  if (entries.every((entry) => entry.state !== "loading")) page.dataset.begun = "";
  nothing.hidden = open !== null || wanted !== null;
  nothing.querySelector("[data-when-empty]").hidden = entries.length > 0;
  nothing.querySelector("[data-when-chosen]").hidden = entries.length === 0;
}

function serverBox(entry) {
  const { server, state, problem } = entry;
  const remove = button("✕", () => choose(entriesNow().filter((one) => one !== entry)), { class: "small quiet push", "aria-label": `Remove ${visible(server.name)}` });
  return element("section", { class: "pg-chosen-server" },
    element("div", { class: "line" }, element("h3", {}, element("a", { href: server.page }, visible(server.name))), state === "ready" ? null : stateOf(entry), remove),
    server.missing && state !== "off" ? element("p", { class: "muted small" }, visible(server.missing.sentence)) : null,
    server.missing && state !== "off" ? connectButton(server, draw) : null,
    state === "loading" ? element("p", { class: "muted small", role: "status" }, "Reading its tools…") : null,
    state === "off" ? element("p", { class: "muted small" }, "It is switched off. Ask its manager when it comes back.") : null,
    state === "failed" ? [element("p", { class: "errorlist" }, visible(problem)), button("Try again", () => read(entry), { class: "small" })] : null,
    state === "ready" ? toolList(entry) : null);
}

function stateOf({ server, state }) {
  return state === "failed" ? element("span", { class: "state failing" }, "Not readable") : stateChip(server);
}

function toolList(entry) {
  const tools = toolsOf(entry);
  if (!tools.length) return element("p", { class: "muted small" }, "No tools of this server are there for you.");
  const rows = tools.slice(0, LISTED_AT_ONCE).map((tool) => {
    const key = `${keyOf(entry.server)} ${tool.name}`;
    const attributes = { class: "pg-pick", "data-tool-key": key, "aria-current": open === key ? "true" : null };
    return element("li", {}, button(oneLine(tool.name, 80), () => show(entry.server, tool, true), attributes));
  });
  const more = tools.length > LISTED_AT_ONCE ? element("li", { class: "muted small" }, `${tools.length - LISTED_AT_ONCE} more: choose fewer to see them.`) : null;
  return element("ul", { class: "pg-picks" }, rows, more);
}

function show(server, tool, asked) {
  open = server ? `${keyOf(server)} ${tool.name}` : null;
  page.querySelector("[data-word]").replaceChildren();
  for (const pick of side.querySelectorAll("[data-tool-key]")) {
    if (pick.dataset.toolKey === open) pick.setAttribute("aria-current", "true");
    else pick.removeAttribute("aria-current");
  }
  nothing.hidden = open !== null;
  if (!open) return place.replaceChildren();
  const kept = panels.get(open);
  const panel = kept?.tool === tool ? kept.panel : new ToolPanel(server, tool);
  panels.set(open, { tool, panel });
  place.replaceChildren(panel.element);
  if (!asked) return;
  document.getElementById("tab-tools")?.click();
  if (matchMedia("(max-width: 56rem)").matches) place.scrollIntoView();
}
