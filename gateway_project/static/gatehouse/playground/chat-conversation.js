// A conversation: what is kept, what of it the model gets, and what it gets of a tool's result. Pure.

import { safeName } from "./chat-names.js";

export const MOST_FOR_MODEL = 16_000;

/** A conversation in which nothing was said. `allowed` are the tools that need no more asking, by `toolKey`. */
export function emptyConversation() {
  return { items: [], allowed: [] };
}

/** What identifies a tool in a conversation. */
export function toolKey({ server, tool }) {
  return `${server.tenant}/${server.slug}/${tool.name}`;
}

/** The messages for the model. */
export function toMessages({ items }, instructions) {
  const messages = instructions ? [{ role: "system", content: instructions }] : [];
  for (const item of items) {
    if (item.role === "user") messages.push({ role: "user", content: item.text });
    if (item.role !== "assistant" || (!item.text && !item.calls.length)) continue;
    const calls = item.calls.map(({ id, name, given }) => ({
      id,
      type: "function",
      function: { name: safeName(name), arguments: JSON.stringify(given ?? {}) },
    }));
    messages.push({ role: "assistant", content: item.text, ...(calls.length ? { tool_calls: calls } : {}) });
    for (const call of item.calls) messages.push({ role: "tool", tool_call_id: call.id, content: call.answer });
  }
  return messages;
}

/** An id for a call that no other has, the model's own where it can be used. */
export function callId(wanted, { items }) {
  const taken = new Set(items.flatMap((item) => (item.calls ?? []).map(({ id }) => id)));
  if (typeof wanted === "string" && /^[\x21-\x7e]{1,128}$/.test(wanted) && !taken.has(wanted)) return wanted;
  // Nine letters and digits, which the strictest endpoints ask for.
  for (let number = taken.size; ; number += 1) {
    const id = `call${String(number).padStart(5, "0")}`;
    if (!taken.has(id)) return id;
  }
}

/** The arguments as an object, or null where the model wrote something else. */
export function parsedArguments(text) {
  if (!text.trim()) return {};
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

/** What the model reads of a tool's result: its text, a word for all else, and never more than it can use. */
export function forModel(result) {
  const blocks = Array.isArray(result?.content) ? result.content : [];
  const parts = blocks.map(blockWords).filter(Boolean);
  if (!parts.length && result?.structuredContent !== undefined) parts.push(JSON.stringify(result.structuredContent));
  const words = parts.join("\n") || "The tool answered with nothing.";
  return cut(result?.isError ? `The tool reports an error:\n${words}` : words);
}

function blockWords(block) {
  switch (block?.type) {
    case "text":
      return String(block.text ?? "");
    case "image":
    case "audio":
      return `[${block.type}, ${block.mimeType ?? "unknown type"}: shown to the person, not to you]`;
    case "resource_link":
      return `[link to ${block.title ?? block.name ?? "a resource"}: ${block.uri}]`;
    case "resource":
      return block.resource?.text !== undefined
        ? String(block.resource.text)
        : `[resource ${block.resource?.uri ?? ""}: shown to the person, not to you]`;
    default:
      return "";
  }
}

/** A text that is no longer than a model should read, with a note where it was cut. */
export function cut(text) {
  if (text.length <= MOST_FOR_MODEL) return text;
  return `${text.slice(0, MOST_FOR_MODEL)}\n[Cut here: the first ${MOST_FOR_MODEL} of ${text.length} characters. Ask for less at once.]`;
}

/** A kept conversation once its page is gone: whatever was going on has ended, and what may have happened is said. */
export function healed({ items, allowed }) {
  for (const item of items) {
    if (item.state === "coming") Object.assign(item, { state: "stopped", calls: [] });
    for (const call of item.calls ?? []) {
      if (call.answer !== undefined) continue;
      const ran = call.state === "running";
      call.state = "stopped";
      call.answer = ran ? "The page was left while this ran. It may have run." : "The page was left. This did not run.";
    }
  }
  return { items, allowed };
}
