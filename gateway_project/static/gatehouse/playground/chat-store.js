// The conversation in this browser tab: there again after a reload, gone with the tab, never at the gateway.

import { emptyConversation, healed } from "./chat-conversation.js";

/** The kept conversation of this person, or an empty one. */
export function load(person) {
  try {
    const kept = JSON.parse(sessionStorage.getItem(keyOf(person)) ?? "null");
    return Array.isArray(kept?.items) && Array.isArray(kept.allowed) ? healed(kept) : emptyConversation();
  } catch {
    return emptyConversation();
  }
}

/** Keep the conversation; returns whether there was room. Results are left out before all is. */
export function keep(person, conversation) {
  const withoutResults = (name, value) => (name === "result" ? undefined : value);
  return write(person, JSON.stringify(conversation)) || write(person, JSON.stringify(conversation, withoutResults));
}

function write(person, text) {
  try {
    sessionStorage.setItem(keyOf(person), text);
    return true;
  } catch {
    sessionStorage.removeItem(keyOf(person));
    return false;
  }
}

function keyOf(person) {
  return `gatehouse-chat-${person}`;
}
