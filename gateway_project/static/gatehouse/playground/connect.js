// What a person does before a server can be called for them: in another tab, while this page looks whether it is done.

import { element } from "./dom.js";
import { csrfToken, refreshServers, serversNow } from "./selection.js";
import { visible, webAddress } from "./text.js";

const EVERY = 2_500;
const UNTIL = 10 * 60_000;
let looking = null;

/** The button for what is missing, or null when only somebody else can help. `onDone` is called after each look. */
export function connectButton(server, onLook) {
  const { missing } = server;
  if (!missing?.url) return null;
  const attributes = { class: "button small main", "aria-label": `${missing.action}: ${visible(server.name)} (opens a new tab)` };
  if (!missing.post) {
    return element("a", { ...attributes, href: missing.url, target: "_blank", onclick: () => look(onLook) }, missing.action);
  }
  return element("form", { method: "post", action: missing.url, target: "_blank", class: "pg-inline", onsubmit: () => look(onLook) },
    element("input", { type: "hidden", name: "csrfmiddlewaretoken", value: csrfToken() }),
    element("button", { ...attributes, class: "small main", type: "submit" }, missing.action));
}

/**
 * The button for the link that an answer of the gateway holds, or null when it holds none.
 *
 * A server could write the same, so it leads to the pages that connect and to no other page of the gateway.
 */
export function connectLink({ url, onLook }) {
  const href = webAddress(url);
  if (!href) return null;
  const { origin, pathname } = new URL(href);
  if (origin !== location.origin || !/^\/connect\/[^/]+$/.test(pathname)) return null;
  return element("a", { class: "button main", href, target: "_blank", onclick: () => look(onLook) }, "Connect Now");
}

/** Ask for the states of the servers again and again while the person is in another tab. */
function look(onLook) {
  clearInterval(looking?.timer);
  const waiting = () => serversNow().filter((server) => server.missing).length;
  const before = waiting();
  const until = Date.now() + UNTIL;
  looking = { timer: setInterval(ask, EVERY) };
  const mine = looking;
  async function ask() {
    if (looking !== mine || Date.now() > until) return clearInterval(mine.timer);
    try {
      await refreshServers();
    } catch {
      return;
    }
    onLook?.();
    if (waiting() < before) clearInterval(mine.timer);
  }
}
