// What went over the line: the request, each message that came back, and how to find the call in the records.

import { copyButton, element } from "./dom.js";
import { pretty } from "./json-tree.js";
import { size, visible } from "./text.js";

const SHOWN = 20_000;
const MESSAGES_SHOWN = 100;

/** The exchange of one call as an element that opens. */
export function exchangeView(exchange) {
  const { request, messages, status, milliseconds, requestId } = exchange;
  const facts = [status ? `HTTP ${status}` : "no answer", `${milliseconds} ms`, requestId ? `request ${requestId}` : null].filter(Boolean);
  const body = element("div", { class: "pg-exchange" });
  const details = element("details", { class: "pg-details" }, element("summary", {}, "JSON-RPC exchange", element("span", { class: "muted small" }, ` ${facts.join(" · ")}`)), body);
  details.addEventListener("toggle", () => {
    if (!details.open || body.childElementCount) return;
    body.append(message("Sent", request), ...messages.slice(0, MESSAGES_SHOWN).map((one, i) => message(titleOf(one, i), one)));
    if (messages.length > MESSAGES_SHOWN) body.append(element("p", { class: "muted small" }, `${messages.length - MESSAGES_SHOWN} more messages came.`));
    if (!messages.length) body.append(element("p", { class: "muted small" }, "Nothing came back."));
    if (requestId) body.append(element("p", { class: "muted small" }, "Under the request id, an admin finds this call in the records: ", element("code", {}, visible(requestId))));
  });
  return details;
}

function titleOf(one, i) {
  if (one?.error) return "Error";
  if (one?.result !== undefined) return "Result";
  return one?.method ? `Notification ${i + 1}: ${visible(one.method)}` : `Answer ${i + 1}`;
}

function message(title, value) {
  const text = pretty(value);
  const shown = text.length > SHOWN ? `${visible(text.slice(0, SHOWN))}\n… (${size(text.length)}; Copy takes all of it)` : visible(text);
  return element("section", { class: "pg-message" },
    element("div", { class: "line" }, element("h4", {}, title), element("span", { class: "push" }, copyButton(() => text, `Copy: ${title}`))),
    element("pre", { class: "block", tabindex: "0", role: "group", "aria-label": title }, shown));
}
