// Which servers and tools the person chose, kept in this browser under their id. The tools and the chat read it.

import { McpClient } from "./mcp-client.js";

const listeners = new Set();
let entries = [];
let servers = [];
let settings = null;

/**
 * What was chosen and is there: `[{server: {tenant, slug, name, url}, tools: [tool…]}]`.
 *
 * `url` is the playground's door to the server (for McpClient), `tools` are as `tools/list` describes them.
 */
export function chosen() {
  return entries
    .filter((entry) => entry.listed)
    .map((entry) => {
      const { tenant, slug, name, url } = entry.server;
      return { server: { tenant, slug, name, url }, tools: toolsOf(entry) };
    });
}

/** Call `listener` after each change of what is chosen. Returns what ends that. */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/**
 * The chosen servers with what is known of them: `[{server, wanted, listed, state, problem}]`.
 *
 * `wanted` is "all" or a list of names; `listed` the tools of the server, or null while `state` is `loading`,
 * `missing` (the person has something to do first), `off`, or `failed` (`problem` says why).
 */
export function entriesNow() {
  return entries;
}

/** The tools of an entry that the person chose. */
export function toolsOf({ listed, wanted }) {
  return wanted === "all" ? (listed ?? []) : (listed ?? []).filter((tool) => wanted.includes(tool.name));
}

/** All servers that the person may use, as last asked. */
export function serversNow() {
  return servers;
}

/** Begin: ask for the servers and bring back what was chosen the last time. Throws Error with a sentence. */
export async function begin({ user, csrf, serversUrl }) {
  settings = { key: `gatehouse-playground-${user}`, csrf, serversUrl };
  await refreshServers();
  const kept = readKept();
  const known = new Map(servers.map((server) => [keyOf(server), server]));
  choose(kept.filter((one) => known.has(one.key)).map(({ key, wanted }) => ({ server: known.get(key), wanted })));
}

/** Ask again for the servers and their states; entries of servers that became usable are read. */
export async function refreshServers() {
  let answer;
  try {
    const response = await fetch(settings.serversUrl, { headers: { Accept: "application/json" }, redirect: "error" });
    answer = await response.json();
  } catch {
    throw new Error("Your servers could not be read. Reload the page; you may have been signed out.");
  }
  servers = answer.servers;
  const fresh = new Map(servers.map((server) => [keyOf(server), server]));
  for (const entry of entries) {
    const server = fresh.get(keyOf(entry.server));
    if (!server) continue;
    entry.server = server;
    if (["missing", "off"].includes(entry.state)) read(entry);
  }
}

/** Take what the person chose: `[{server, wanted}]`. Lists of tools that are known are kept. */
export function choose(next) {
  const before = new Map(entries.map((entry) => [keyOf(entry.server), entry]));
  entries = next.map(({ server, wanted }) => {
    const entry = before.get(keyOf(server)) ?? { server, listed: null, state: "new", problem: "" };
    return Object.assign(entry, { server, wanted });
  });
  keep();
  for (const entry of entries) if (!entry.listed && entry.state !== "loading") read(entry);
  tell();
}

/** Read the tools of an entry again. */
export async function read(entry) {
  if (blocks(entry.server)) {
    entry.state = entry.server.state === "off" ? "off" : "missing";
    return tell();
  }
  entry.state = "loading";
  tell();
  try {
    entry.listed = await listTools(entry.server);
    entry.state = "ready";
  } catch (error) {
    entry.state = "failed";
    entry.problem = error.message;
  }
  tell();
}

/** The tools of a server, as it lists them for this person. Throws CallError. */
export function listTools(server) {
  return clientOf(server).listTools();
}

/** A client of the server. */
export function clientOf(server) {
  return new McpClient({ url: server.url, csrf: settings.csrf });
}

/** The page's token, for forms. */
export function csrfToken() {
  return settings.csrf;
}

/** Whether the server cannot be asked for its tools yet; the members of a virtual server that are there can. */
export function blocks(server) {
  return server.state === "off" || (server.missing !== null && server.state !== "virtual");
}

/** What tells servers apart. */
export function keyOf(server) {
  return `${server.tenant}/${server.slug}`;
}

function tell() {
  for (const listener of listeners) listener();
}

function keep() {
  const kept = entries.map((entry) => ({ key: keyOf(entry.server), wanted: entry.wanted }));
  try {
    localStorage.setItem(settings.key, JSON.stringify(kept));
  } catch {
    // No room, or a browser that keeps nothing: the choice then lasts as long as the page.
  }
}

function readKept() {
  let kept;
  try {
    kept = JSON.parse(localStorage.getItem(settings.key) ?? "[]");
  } catch {
    return [];
  }
  const isChoice = (one) => typeof one?.key === "string" && (one.wanted === "all" || (Array.isArray(one.wanted) && one.wanted.every((name) => typeof name === "string")));
  return Array.isArray(kept) ? kept.filter(isChoice) : [];
}
