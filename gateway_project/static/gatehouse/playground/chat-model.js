// Asking a model through the gateway, which holds the key and decides who may.

import { events } from "./mcp-client.js";

/** What ends an answer early: `code` is the gateway's word, the message its sentence for people. */
export class ChatProblem extends Error {
  constructor(code, message) {
    super(message);
    this.name = "ChatProblem";
    this.code = code;
  }
}

/**
 * The pieces of one answer as they come: `text`, `call`, `usage`, and `end` at its end.
 *
 * Throws ChatProblem for everything that goes wrong, and the browser's AbortError when `signal` is aborted.
 */
export async function* ask({ url, csrf, endpoint, model, messages, tools, signal }) {
  const response = await reached(url, {
    method: "POST",
    signal,
    redirect: "error",
    headers: { "Content-Type": "application/json", "X-CSRFToken": csrf },
    body: JSON.stringify({ endpoint, model, messages, tools }),
  });
  if (!response.ok) throw await refusal(response);
  try {
    for await (const piece of events(response.body)) {
      if (piece.type === "error") throw new ChatProblem(piece.code, piece.detail);
      yield piece;
      if (piece.type === "end") return;
    }
  } catch (error) {
    if (error instanceof ChatProblem || error.name === "AbortError") throw error;
  }
  throw new ChatProblem("broken_off", "The answer broke off on its way. Look at your connection and try again.");
}

async function reached(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ChatProblem("not_reached", "The gateway could not be reached. Look at your connection and try again.");
  }
}

async function refusal(response) {
  try {
    const { code, detail } = await response.json();
    if (detail) return new ChatProblem(code, detail);
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  const sentences = {
    403: "This page is too old. Reload it.",
    413: "This conversation is too long to go on. Begin a new chat.",
  };
  return new ChatProblem("refused", sentences[response.status] ?? "The gateway gave no answer that can be read. Try again.");
}
