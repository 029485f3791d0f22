// One tool call in the conversation: what is asked for, whether it may, how it goes and what came out.

import { button, element, newId } from "./dom.js";
import { renderResult } from "./result.js";
import { oneLine, visible } from "./text.js";

const STATES = {
  waiting: ["Waiting", ""],
  asking: ["Needs your approval", "warning"],
  running: ["Running…", "active"],
  done: ["Done", "ok"],
  failed: ["Failed", "revoked"],
  denied: ["Denied", ""],
  refused: ["Not called", "warning"],
  stopped: ["Stopped", ""],
};

/** The card of a call: `{holder, update(), approve(target, signal)}`. */
export function callCard(call) {
  const state = element("span", { class: "state" });
  const time = element("span", { class: "muted small push" });
  const name = oneLine(call.tool ?? (call.name || "Tool without a name"), 80);
  const head = element("div", { class: "line" }, element("h3", { class: "chat-tool" }, name), call.server ? element("span", { class: "muted small" }, oneLine(call.server.name, 60)) : null, state, time);
  const given = call.given === null ? call.text : JSON.stringify(call.given, null, 2);
  const args = folded("Arguments", element("pre", { class: "chat-code", tabindex: "0", role: "group", "aria-label": "Arguments" }, visible(given)));
  args.open = call.state === "waiting" || call.state === "refused";
  const place = element("div", { class: "chat-approval" });
  const outcome = element("div", { class: "chat-outcome" });
  const holder = element("section", { class: "chat-call", "aria-label": `Call of ${name}` }, head, args, place, outcome);
  let asking = false;
  let shown = "";

  function update() {
    const [word, look] = STATES[asking ? "asking" : call.state];
    if (state.textContent !== word) {
      state.textContent = word;
      state.className = `state ${look}`;
    }
    time.textContent = call.milliseconds === undefined ? "" : `${call.milliseconds} ms`;
    if (call.requestId) time.title = `Request id ${call.requestId}`;
    const now = `${call.state} ${call.progress ?? ""}`;
    if (now !== shown) outcome.replaceChildren(...outcomeOf(call));
    shown = now;
  }

  async function approve(target, signal) {
    asking = true;
    args.open = true;
    update();
    const decision = await asked(place, target, signal);
    asking = false;
    place.replaceChildren();
    args.open = false;
    update();
    return decision;
  }

  update();
  return { holder, update, approve };
}

function outcomeOf(call) {
  if (call.state === "running") return call.progress ? [element("p", { class: "muted small" }, oneLine(call.progress, 200))] : [];
  if (call.result) {
    const result = folded("Result", renderResult(call.result));
    result.open = true;
    return [result];
  }
  if (call.trouble) return [element("p", { class: "chat-text" }, visible(call.trouble))];
  if (call.state === "refused" && call.given === null) return [element("p", { class: "muted small" }, "The model wrote arguments that are not a JSON object. It was told so.")];
  if (call.state === "refused") return [element("p", { class: "muted small" }, "The model asked for a tool that is not chosen. It was told so.")];
  if (call.state === "done" || call.state === "failed") return [folded("What the model read", element("pre", { class: "chat-code", tabindex: "0", role: "group", "aria-label": "What the model read" }, visible(call.answer ?? "")))];
  return [];
}

/** Ask, and wait for a button or the end of everything. */
function asked(place, { server, tool }, signal) {
  return new Promise((resolve) => {
    const word = element("input", { id: newId("chat-word"), maxlength: "500", autocomplete: "off" });
    const end = (decision) => {
      signal.removeEventListener("abort", stopped);
      resolve(decision);
    };
    const stopped = () => end({ allow: false, always: false, word: "" });
    signal.addEventListener("abort", stopped);
    const deny = () => end({ allow: false, always: false, word: word.value.trim() });
    word.addEventListener("keydown", (event) => {
      if (event.key === "Enter") deny();
    });
    const what = `${oneLine(tool.name, 80)} of ${oneLine(server.name, 60)}`;
    place.append(
      element("p", {}, `May the model call ${what}?`),
      element("p", { class: "muted small" }, hint(tool)),
      element("div", { class: "actions" },
        button("Allow once", () => end({ allow: true, always: false, word: "" }), { class: "main" }),
        button("Allow for this chat", () => end({ allow: true, always: true, word: "" }))),
      element("div", { class: "chat-deny" },
        element("label", { for: word.id }, "Or tell the model why not"),
        element("div", { class: "line" }, word, button("Deny", deny, { class: "danger" }))),
    );
    if (signal.aborted) stopped();
  });
}

function hint({ annotations, description }) {
  const words = oneLine(description ?? "", 200);
  const own = annotations?.readOnlyHint === true
    ? "By its own word it only reads."
    : annotations?.destructiveHint === false ? "By its own word it deletes and overwrites nothing." : "It may change or delete something.";
  return [words, own].filter(Boolean).join(" ");
}

function folded(title, content) {
  return element("details", {}, element("summary", { class: "small" }, title), content);
}
