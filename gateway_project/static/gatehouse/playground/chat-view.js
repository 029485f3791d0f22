// The conversation as elements. Everything a model or a server said is set as text.

import { callCard } from "./chat-call.js";
import { button, element } from "./dom.js";
import { visible } from "./text.js";

const REASONS = {
  length: "The answer reached the longest length that the endpoint allows.",
  content_filter: "The endpoint's filter ended the answer.",
};

/** Draws items of a conversation into `log`. `onRetry` asks the model once more after a failure. */
export class ChatView {
  #log;
  #onRetry;
  #drawn = new Map();
  #cards = new Map();

  constructor(log, onRetry) {
    this.#log = log;
    this.#onRetry = onRetry;
  }

  /** Draw the whole conversation anew. */
  restart(items) {
    this.#drawn.clear();
    this.#cards.clear();
    this.#log.replaceChildren();
    for (const item of items) this.draw(item);
  }

  /** Draw an item, or what changed of it. */
  draw(item) {
    let holder = this.#drawn.get(item);
    if (!holder) {
      holder = element("article", { class: `chat-item ${item.role}`, "aria-label": { user: "You", assistant: "Model" }[item.role] ?? "Note" });
      this.#drawn.set(item, holder);
      if (item.role === "assistant") this.#frame(holder);
      this.#log.append(holder);
    }
    if (item.role === "assistant") this.#assistant(holder, item);
    else holder.replaceChildren(element("p", { class: "chat-text" }, visible(item.text)));
  }

  /** Take an item away that said nothing. */
  remove(item) {
    this.#drawn.get(item)?.remove();
    this.#drawn.delete(item);
  }

  /** Ask on the card of a call whether it may run: `{allow, always, word}`. */
  approve(call, target, signal) {
    return this.#cards.get(call).approve(target, signal);
  }

  #frame(holder) {
    holder.append(element("div", { class: "chat-words" }), element("div", { class: "chat-calls" }), element("div", { class: "chat-after" }));
  }

  #assistant(holder, item) {
    const [words, calls, after] = holder.children;
    holder.setAttribute("aria-busy", String(item.state === "coming"));
    if (words.dataset.length !== String(item.text.length)) {
      words.dataset.length = item.text.length;
      words.replaceChildren(...blocks(item.text));
    }
    if (item.state === "coming" && !item.text) words.replaceChildren(element("p", { class: "chat-wait", "aria-label": "The model is thinking" }, "…"));
    else if (!item.text) words.replaceChildren();
    for (const call of item.calls) {
      if (!this.#cards.has(call)) {
        this.#cards.set(call, callCard(call));
        calls.append(this.#cards.get(call).holder);
      }
      this.#cards.get(call).update();
    }
    const ends = this.#ends(item);
    if (after.dataset.state !== item.state) {
      after.dataset.state = item.state;
      after.replaceChildren(...ends);
    }
  }

  #ends(item) {
    const ends = [];
    if (item.state === "stopped") ends.push(element("p", { class: "muted small" }, "Stopped."));
    if (item.problem) {
      const again = button("Try again", () => this.#onRetry(item), { class: "small" });
      ends.push(element("div", { class: "notice error", role: "alert" }, element("p", {}, item.problem.text), element("p", {}, again)));
    }
    if (REASONS[item.reason]) ends.push(element("p", { class: "muted small" }, REASONS[item.reason]));
    return ends;
  }
}

/** A text in paragraphs and blocks of code; a fence that is not closed yet is code to the end. */
function blocks(text) {
  const parts = [];
  const fence = /^[ \t]*```([^\n`]*)\n([\s\S]*?)(?:^[ \t]*```[ \t]*$\n?|(?![\s\S]))/gm;
  let from = 0;
  for (const match of text.matchAll(fence)) {
    parts.push(paragraph(text.slice(from, match.index)));
    const language = visible(match[1].trim()).slice(0, 30);
    const label = language ? `Code in ${language}` : "Code";
    parts.push(element("pre", { class: "chat-code", tabindex: "0", role: "group", "aria-label": label }, visible(match[2])));
    from = match.index + match[0].length;
  }
  parts.push(paragraph(text.slice(from)));
  return parts.filter(Boolean);
}

function paragraph(text) {
  const trimmed = text.replace(/^\n+/, "").trimEnd();
  return trimmed ? element("p", { class: "chat-text" }, visible(trimmed)) : null;
}
