// Add Tool/MCP Servers: the dialog in which a person picks servers, and of each all tools or some.

import { connectButton } from "./connect.js";
import { button, element, newId, say } from "./dom.js";
import { blocks, choose, entriesNow, keyOf, listTools, refreshServers, serversNow } from "./selection.js";
import { oneLine, visible } from "./text.js";

/** Wire the dialog; returns what opens it. */
export function picker(dialog) {
  const list = dialog.querySelector("[data-list]");
  const search = dialog.querySelector("input[type=search]");
  const summary = dialog.querySelector("[data-summary]");
  const state = { drafts: new Map(), rows: new Map(), empty: dialog.querySelector("[data-empty]"), none: dialog.querySelector("[data-none]") };

  async function open() {
    state.drafts = new Map(entriesNow().map((entry) => [keyOf(entry.server), { wanted: entry.wanted, listed: entry.listed }]));
    search.value = "";
    draw();
    dialog.showModal();
    try {
      await refreshServers();
      redraw();
    } catch (error) {
      summary.textContent = error.message;
    }
  }

  /** Show new states in the rows that changed; the others keep what is open and has the focus. */
  function redraw() {
    const fresh = new Map(serversNow().map((server) => [keyOf(server), server]));
    if (fresh.size !== state.rows.size) return draw();
    for (const [key, row] of state.rows) {
      const server = fresh.get(key);
      if (!server) return draw();
      if (JSON.stringify(server) === JSON.stringify(row.server)) continue;
      if (row.server.missing && !server.missing) say(`${server.name} is connected.`);
      const next = makeRow(server);
      row.element.replaceWith(next.element);
      state.rows.set(key, next);
    }
  }

  function draw() {
    state.rows = new Map(serversNow().map((server) => [keyOf(server), makeRow(server)]));
    list.replaceChildren(...[...state.rows.values()].map((row) => row.element));
    filter();
    count();
  }

  function makeRow(server) {
    return serverRow(server, state.drafts, { changed: count, looked: redraw });
  }

  function filter() {
    const wanted = search.value.trim().toLocaleLowerCase();
    let shown = 0;
    for (const { server, element: row } of state.rows.values()) {
      row.hidden = !`${server.name}\n${server.slug}\n${server.description}\n${server.group}`.toLocaleLowerCase().includes(wanted);
      shown += row.hidden ? 0 : 1;
    }
    state.none.hidden = state.rows.size > 0;
    state.empty.hidden = shown > 0 || state.rows.size === 0;
  }

  function count() {
    const drafts = [...state.drafts.values()];
    const known = drafts.filter((draft) => draft.listed || draft.wanted !== "all");
    const tools = known.reduce((sum, draft) => sum + (draft.wanted === "all" ? draft.listed.length : draft.wanted.length), 0);
    const plural = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
    summary.textContent = drafts.length ? `${plural(drafts.length, "server")}, ${plural(tools, "tool")}` : "Nothing chosen";
  }

  search.addEventListener("input", filter);
  search.addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault());
  dialog.querySelector("[data-cancel]").addEventListener("click", () => dialog.close());
  dialog.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const servers = serversNow().filter((server) => state.drafts.has(keyOf(server)));
    choose(servers.map((server) => ({ server, wanted: state.drafts.get(keyOf(server)).wanted })));
    dialog.close();
  });
  return open;
}

function serverRow(server, drafts, { changed, looked }) {
  const key = keyOf(server);
  const id = newId("server");
  const tick = element("input", { type: "checkbox", id, disabled: server.state === "off" });
  const tools = element("div", { class: "pg-tools", id: `${id}-tools`, hidden: true });
  const toggle = button("Tools", () => expand(tools.hidden), { class: "small quiet", "aria-expanded": "false", "aria-controls": `${id}-tools`, "aria-label": `Tools of ${visible(server.name)}` });
  toggle.hidden = blocks(server);
  const draft = () => drafts.get(key);
  tick.checked = drafts.has(key);
  let listing = null;

  function expand(open) {
    tools.hidden = !open;
    toggle.setAttribute("aria-expanded", String(open));
    if (open) show();
  }

  async function show() {
    if (blocks(server)) return;
    const known = draft()?.listed;
    if (known) return drawTools(known);
    tools.replaceChildren(element("p", { class: "muted small" }, "Reading the tools…"));
    try {
      listing ??= listTools(server);
      const listed = await listing;
      if (draft()) draft().listed = listed;
      drawTools(listed);
      changed();
    } catch (error) {
      listing = null;
      tools.replaceChildren(element("p", { class: "errorlist" }, visible(error.message)), button("Try again", show, { class: "small" }));
    }
  }

  function drawTools(listed) {
    const wanted = draft()?.wanted ?? [];
    const boxes = listed.map((tool) => {
      const box = element("input", { type: "checkbox" });
      box.checked = wanted === "all" || wanted.includes(tool.name);
      box.addEventListener("change", take);
      return { box, tool };
    });
    function take() {
      const names = boxes.filter(({ box }) => box.checked).map(({ tool }) => tool.name);
      tick.checked = names.length > 0;
      tick.indeterminate = names.length > 0 && names.length < listed.length;
      if (names.length) drafts.set(key, { wanted: names.length === listed.length ? "all" : names, listed });
      else drafts.delete(key);
      changed();
    }
    const every = (on) => () => {
      for (const { box } of boxes) box.checked = on;
      take();
    };
    tick.indeterminate = Array.isArray(wanted) && wanted.length > 0;
    const bar = element("div", { class: "line small" }, element("span", { class: "muted" }, `${listed.length} ${listed.length === 1 ? "tool" : "tools"}`),
      button("All", every(true), { class: "small quiet" }), button("None", every(false), { class: "small quiet" }));
    const rows = boxes.map(({ box, tool }) => element("label", { class: "choice" }, box,
      element("span", {}, element("code", {}, oneLine(tool.name, 80)), element("span", { class: "muted small pg-about" }, oneLine(tool.description ?? tool.title ?? "", 110)))));
    tools.replaceChildren(listed.length ? bar : element("p", { class: "muted small" }, "This server has no tools for you."), ...rows);
  }

  tick.addEventListener("change", () => {
    if (tick.checked) drafts.set(key, { wanted: "all", listed: draft()?.listed ?? null });
    else drafts.delete(key);
    tick.indeterminate = false;
    changed();
    if (!blocks(server)) expand(tick.checked);
  });
  if (Array.isArray(draft()?.wanted)) tick.indeterminate = !draft().listed || draft().wanted.length < draft().listed.length;

  const about = server.missing?.sentence || (server.account ? `Connected as ${server.account}` : server.description);
  const row = element("li", { class: "pg-server" },
    element("div", { class: "line" },
      element("label", { class: "choice", for: id }, tick, element("span", {}, element("strong", {}, visible(server.name)), server.group ? element("span", { class: "muted small" }, ` in ${visible(server.group)}`) : null)),
      stateChip(server), element("span", { class: "push line" }, connectButton(server, looked), toggle)),
    about ? element("p", { class: "muted small pg-sentence" }, oneLine(about, 220)) : null, tools);
  return { server, element: row };
}

/** The state of a server as the portal shows it; what is missing goes first. */
export function stateChip(server) {
  if (server.state !== "off" && server.missing) return element("span", { class: "state warning" }, server.missing.action === "Enter key" ? "Key missing" : server.state === "virtual" ? "Partly connected" : "Not connected");
  return element("span", { class: `state ${server.state}` }, server.state_text);
}
