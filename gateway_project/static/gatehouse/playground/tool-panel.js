// One tool: its form, the run, and the answer. A panel keeps what was entered while another tool is looked at.

import { ArgumentsEditor } from "./arguments.js";
import { connectLink } from "./connect.js";
import { button, element, say } from "./dom.js";
import { exchangeView } from "./exchange.js";
import { CAPABILITIES, isQuestion, questionsView } from "./questions.js";
import { renderResult } from "./result.js";
import { clientOf } from "./selection.js";
import { oneLine, visible } from "./text.js";

const DESCRIPTION_SHOWN = 600;
const HINTS = [
  ["readOnlyHint", true, "Reads only", "ok"],
  ["destructiveHint", true, "May delete or overwrite", "warning"],
  ["idempotentHint", true, "Safe to repeat", ""],
  ["openWorldHint", true, "Reaches other systems", ""],
];
const CONNECT = "gatehouse/connect";

/** The panel of one tool of one server; `element` is what to show. */
export class ToolPanel {
  #server;
  #tool;
  #editor;
  #run = element("button", { type: "submit", class: "main" }, "Run");
  #cancel = button("Cancel", () => this.#abort?.abort(), { hidden: true });
  #progress = element("div", { class: "pg-progress", hidden: true });
  #answer = element("section", { class: "pg-answer", "aria-label": "Answer", tabindex: "-1" });
  #abort = null;

  constructor(server, tool) {
    this.#server = server;
    this.#tool = tool;
    this.#editor = new ArgumentsEditor(tool.inputSchema);
    this.element = element("article", { class: "pg-tool" }, this.#head(), this.#form(), this.#progress, this.#answer);
  }

  #head() {
    const { name, title, description, annotations } = this.#tool;
    const shown = title || annotations?.title;
    const hints = HINTS.filter(([hint, on]) => annotations?.[hint] === on && !(hint === "destructiveHint" && annotations.readOnlyHint));
    return element("header", { class: "pg-head" },
      element("div", { class: "line" }, element("h2", {}, oneLine(shown || name, 120)), hints.map(([, , text, look]) => element("span", { class: `tag ${look}` }, text))),
      element("p", { class: "muted small" }, element("code", {}, visible(name)), ` of ${visible(this.#server.name)}`),
      typeof description === "string" && description ? folded(description) : null);
  }

  #form() {
    const form = element("form", { class: "pg-form", novalidate: true, "aria-label": "Arguments" },
      this.#editor.element,
      element("div", { class: "actions pg-actions" }, this.#run, this.#cancel,
        button("Reset", () => this.#editor.reset(), { class: "quiet" }), element("span", { class: "muted small pg-keys" }, "Ctrl + Enter runs")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#start();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#start();
    });
    return form;
  }

  #start() {
    if (this.#abort) return;
    const read = this.#editor.take();
    if (read !== null) this.#call(read, {});
  }

  async #call(given, extra) {
    this.#abort = new AbortController();
    this.#run.disabled = true;
    this.#cancel.hidden = false;
    this.#answer.replaceChildren();
    const show = this.#showProgress();
    let shown;
    try {
      const { result, exchange } = await clientOf(this.#server).callTool(this.#tool, given, {
        signal: this.#abort.signal,
        onMessage: show.message,
        capabilities: CAPABILITIES,
        extra,
      });
      shown = this.#answered(given, result, exchange);
    } catch (error) {
      if (!error.exchange) throw error;
      shown = this.#failed(error);
    } finally {
      show.end();
      this.#abort = null;
      this.#run.disabled = false;
      this.#cancel.hidden = true;
    }
    this.#answer.replaceChildren(...shown);
    this.#answer.scrollIntoView({ block: "nearest" });
  }

  #answered(given, result, exchange) {
    const time = duration(exchange.milliseconds);
    if (isQuestion(result)) {
      say("The server asks before it goes on.");
      const stop = () => this.#answer.replaceChildren(head("Ended", "warning", "You ended the call."), exchangeView(exchange));
      return [questionsView(result, { go: (extra) => this.#call(given, extra), stop, server: this.#server }), exchangeView(exchange)];
    }
    const connect = result?._meta?.[CONNECT]?.url;
    const link = typeof connect === "string" ? connectLink({ url: connect }) : null;
    if (link) return this.#notConnected(link, exchange);
    say(result.isError ? "The tool reports an error." : "The tool answered.");
    return [head(result.isError ? "Tool error" : "Answered", result.isError ? "revoked" : "ok", time), renderResult(result), exchangeView(exchange)];
  }

  #notConnected(link, exchange) {
    say("This server is not connected yet.");
    const name = visible(this.#server.name);
    return [head("Not connected", "warning", ""), element("p", {}, `${name} needs your account or key. Connect it in a new tab, then run the tool again.`), link, exchangeView(exchange)];
  }

  #failed(error) {
    const { exchange } = error;
    if (error.name === "AbortError") {
      say("The call was cancelled.");
      return [head("Cancelled", "warning", duration(exchange.milliseconds)), element("p", { class: "muted" }, "The server was told. It may have done a part of the work."), exchangeView(exchange)];
    }
    const url = error.data?.url ?? error.data?.elicitations?.[0]?.url;
    const link = typeof url === "string" ? connectLink({ url }) : null;
    if (link) return this.#notConnected(link, exchange);
    say("The call failed.");
    const code = error.code !== null && error.code !== undefined ? element("code", {}, visible(String(error.code))) : null;
    return [head("Failed", "revoked", duration(exchange.milliseconds)), element("p", { class: "notice error" }, visible(String(error.message).slice(0, 4_000))),
      code ? element("p", { class: "muted small" }, "Code ", code) : null, exchangeView(exchange)].filter(Boolean);
  }

  /** A bar, the server's words and the time, until `end()`. */
  #showProgress() {
    const bar = element("progress", { "aria-label": "Progress" });
    const words = element("span", { role: "status" }, "Running…");
    const time = element("span", { class: "muted small push" });
    const began = performance.now();
    const timer = setInterval(() => (time.textContent = duration(performance.now() - began)), 100);
    this.#progress.replaceChildren(bar, element("div", { class: "line" }, words, time));
    this.#progress.hidden = false;
    return {
      message({ method, params }) {
        if (method !== "notifications/progress") return;
        if (Number.isFinite(params?.progress) && params.total > 0) {
          bar.max = params.total;
          bar.value = Math.min(params.progress, params.total);
        }
        const of = Number.isFinite(params?.progress) ? `${params.progress}${params.total > 0 ? ` of ${params.total}` : ""}` : "";
        words.textContent = typeof params?.message === "string" ? `${oneLine(params.message, 200)}${of ? ` (${of})` : ""}` : of || "Running…";
      },
      end: () => {
        clearInterval(timer);
        this.#progress.hidden = true;
        this.#progress.replaceChildren();
      },
    };
  }
}

function head(word, look, time) {
  return element("div", { class: "line pg-answer-head" }, element("h3", {}, "Answer"), element("span", { class: `state ${look}` }, word), element("span", { class: "muted small push" }, time));
}

function duration(milliseconds) {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

function folded(description) {
  const whole = visible(description);
  const shown = element("p", { class: "pg-description" }, whole.slice(0, DESCRIPTION_SHOWN));
  if (whole.length <= DESCRIPTION_SHOWN) return shown;
  const more = button("Show all", () => shown.replaceChildren(whole), { class: "link" });
  shown.append("… ", more);
  return shown;
}
