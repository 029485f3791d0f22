// What a server asks in the middle of a call (a result `input_required`): forms, pages to open, and honest words about
// what this page does not do.

import { connectLink } from "./connect.js";
import { button, element } from "./dom.js";
import { Form } from "./form.js";
import { checkSchema, SchemaProblem } from "./schema.js";
import { visible, webAddress } from "./text.js";

/** What the page says it can do, for `capabilities` of a call. */
export const CAPABILITIES = { elicitation: { form: {}, url: {} } };
const MOST_QUESTIONS = 10;

/** Whether a result is a question and not yet an answer. */
export function isQuestion(result) {
  return result?.resultType === "input_required";
}

/**
 * The questions as an element. `go(extra)` is called with what the next request of the same call carries once all are
 * answered, `stop()` when the person does not go on.
 */
export function questionsView(result, { go, stop, server }) {
  const asked = Object.entries(result.inputRequests ?? {});
  const parts = asked.slice(0, MOST_QUESTIONS).map(([key, request]) => [key, question(request, server)]);
  const impossible = asked.length > MOST_QUESTIONS || parts.some(([, part]) => part.impossible);
  const send = (action) => {
    const answers = parts.map(([key, part]) => [key, action === "accept" ? part.answer() : { action }]);
    if (answers.some(([, answer]) => answer === null)) return;
    const extra = { inputResponses: Object.fromEntries(answers) };
    if (result.requestState !== undefined) extra.requestState = result.requestState;
    go(extra);
  };
  const onlyWaits = !asked.length;
  const actions = impossible
    ? [button("End the call", stop)]
    : [button(onlyWaits || parts.every(([, part]) => part.page) ? "Continue" : "Send answer", () => send("accept"), { class: "main" }),
       onlyWaits ? null : button("Decline", () => send("decline")), button("End the call", stop, { class: "quiet" })];
  return element("section", { class: "pg-questions" },
    element("h3", {}, onlyWaits ? "The server asks you to continue" : "The server asks before it goes on"),
    parts.map(([, part]) => part.element),
    impossible ? element("p", { class: "notice warning" }, "The server asks for something that the playground cannot give, so the call ends here. An MCP client that supports it can make this call.") : null,
    element("div", { class: "actions" }, actions.filter(Boolean)));
}

function question(request, server) {
  const { method, params = {} } = request ?? {};
  if (method !== "elicitation/create") return { element: element("p", {}, `It asks for ${visible(String(method).slice(0, 100))}.`), impossible: true };
  const words = element("p", { class: "pg-asked" }, visible(String(params.message ?? "").slice(0, 4_000)));
  return params.mode === "url" ? page(params, words) : form(params, words, server);
}

function page(params, words) {
  const href = webAddress(params.url);
  if (!href) return { element: element("div", {}, words, element("p", { class: "muted" }, "The address that it wants to open is none that a browser may open from here.")), impossible: true };
  const own = connectLink({ url: params.url });
  const elsewhere = element("a", { class: "button", href, target: "_blank", rel: "noopener noreferrer nofollow" }, `Open ${new URL(href).host}`);
  const warning = own ? null : element("p", { class: "muted small" }, "This page belongs to somebody else. Open it only if you expect it, and look at the address: ", element("code", {}, visible(href)));
  return { element: element("div", { class: "pg-question" }, words, warning, own ?? elsewhere), page: true, answer: () => ({ action: "accept" }) };
}

function form(params, words, server) {
  let fields;
  try {
    checkSchema(params.requestedSchema);
    fields = new Form(params.requestedSchema);
  } catch (error) {
    if (!(error instanceof SchemaProblem)) throw error;
    return { element: element("div", {}, words, element("p", { class: "muted" }, error.message)), impossible: true };
  }
  const warning = element("p", { class: "muted small" }, `What you enter goes to ${visible(server.name)}. Never enter passwords or keys here.`);
  return { element: element("div", { class: "pg-question" }, words, fields.element, warning), answer: () => (fields.check() ? { action: "accept", content: fields.read() } : null) };
}
