// The conversation's loop: ask the model, call the tools that it wants and that the person allows, ask again.

import { callId, cut, forModel, parsedArguments, toMessages, toolKey } from "./chat-conversation.js";
import { nameTools } from "./chat-names.js";

export const MOST_ROUNDS = 25;

/**
 * Let the model answer what was said last, with as many tool calls as it needs.
 *
 * `doors` is the outside: `ask({messages, tools, signal})` yields pieces of an answer; `call({server, tool}, given,
 * {signal, onMessage})` calls a tool; `approve(call, {server, tool}, signal)` asks the person and returns `{allow,
 * always, word}`; `chosen()` is the selection as it is now; `changed(item)` is told of every change; `instructions()`
 * are the person's. A failure of the model stands on the last item as `problem`; only that of a bug is thrown.
 */
export async function converse(conversation, doors, signal) {
  for (let round = 0; round < MOST_ROUNDS; round += 1) {
    const tools = nameTools(doors.chosen());
    const item = { role: "assistant", text: "", calls: [], state: "coming" };
    const messages = toMessages(conversation, doors.instructions());
    conversation.items.push(item);
    doors.changed(item);
    if (!(await answered(item, { conversation, doors, messages, tools, signal }))) return;
    if (!item.calls.length) return;
    for (const call of item.calls) await carriedOut(call, { item, conversation, doors, tools, signal });
    if (signal.aborted) return;
  }
  const notice = { role: "notice", text: `Stopped after ${MOST_ROUNDS} rounds of tools. Write something to let it go on.` };
  conversation.items.push(notice);
  doors.changed(notice);
}

/** Take the model's answer in; returns whether it came to its end. */
async function answered(item, { conversation, doors, messages, tools, signal }) {
  const calls = new Map();
  try {
    for await (const piece of doors.ask({ messages, tools: tools.offered, signal })) {
      if (piece.type === "text") item.text += piece.text;
      if (piece.type === "call") collect(calls, piece);
      if (piece.type === "usage") item.usage = { input: piece.input, output: piece.output };
      if (piece.type === "end") item.reason = piece.reason;
      doors.changed(item);
    }
    for (const { id, name, text } of calls.values()) item.calls.push(callOf(id, name, text, conversation, tools));
    item.state = "done";
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) item.state = "stopped";
    else if (error.name === "ChatProblem") Object.assign(item, { state: "failed", problem: { code: error.code, text: error.message } });
    else throw error;
  }
  doors.changed(item);
  return item.state === "done";
}

function collect(calls, { index, id, name, arguments: text }) {
  const call = calls.get(index) ?? { text: "" };
  // Some endpoints repeat id and name with every piece.
  calls.set(index, { id: call.id ?? id, name: call.name ?? name, text: call.text + text });
}

function callOf(id, name, text, conversation, tools) {
  const found = tools.byName.get(name);
  const known = found ? { server: { ...found.server }, tool: found.tool.name } : {};
  return { id: callId(id, conversation), name: name ?? "", text, given: parsedArguments(text), state: "waiting", ...known };
}

/** Carry one call out, or tell the model why not: afterwards it has an `answer` in any case. */
async function carriedOut(call, { item, conversation, doors, tools, signal }) {
  const end = (state, answer) => {
    Object.assign(call, { state, answer });
    doors.changed(item);
  };
  if (signal.aborted) return end("stopped", "The person stopped before this ran.");
  const target = tools.byName.get(call.name);
  if (!target) return end("refused", `There is no tool ${call.name || "without a name"} among those the person chose. Use only the tools you were given.`);
  if (call.given === null) return end("refused", "The arguments were not a JSON object, so the tool was not called. Send them again.");
  if (!conversation.allowed.includes(toolKey(target))) {
    const { allow, always, word } = await doors.approve(call, target, signal);
    if (signal.aborted) return end("stopped", "The person stopped before this ran.");
    if (!allow) return end("denied", `The person did not allow this call.${word ? ` They say: ${cut(word)}` : ""}`);
    if (always) conversation.allowed.push(toolKey(target));
  }
  call.state = "running";
  doors.changed(item);
  const onMessage = (message) => {
    call.progress = message.params?.message ?? call.progress;
    doors.changed(item);
  };
  try {
    const { result, exchange } = await doors.call(target, call.given, { signal, onMessage });
    Object.assign(call, { result, milliseconds: exchange.milliseconds, requestId: exchange.requestId });
    if (result.resultType === "input_required") {
      return end("failed", "The tool asks the person for more input, which this chat cannot give. It did not finish.");
    }
    return end(result.isError ? "failed" : "done", forModel(result));
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return end("stopped", "The person stopped this call. It may have run.");
    if (error.name !== "CallError") throw error;
    Object.assign(call, { milliseconds: error.exchange?.milliseconds, requestId: error.exchange?.requestId, trouble: error.message });
    return end("failed", cut(`The call failed: ${error.message}`));
  }
}
