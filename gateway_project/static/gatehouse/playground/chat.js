// The chat of the playground: joins the conversation's loop with the page, the chosen tools and the gateway.

import { emptyConversation } from "./chat-conversation.js";
import { converse } from "./chat-loop.js";
import { ask } from "./chat-model.js";
import { keep, load } from "./chat-store.js";
import { ChatView } from "./chat-view.js";
import { button, say } from "./dom.js";
import { McpClient } from "./mcp-client.js";
import { chosen, onChange } from "./selection.js";
import { oneLine } from "./text.js";

const KEEP_EVERY = 500;
const NEAR = 160;
const part = (name) => document.getElementById(`chat-${name}`);
const { url, csrf, person } = document.getElementById("chat-app").dataset;
const settingsKey = `gatehouse-chat-settings-${person}`;

let conversation = load(person);
let running = null;
let waiting = null;
const view = new ChatView(part("log"), retry);
const changedItems = new Set();

const doors = {
  ask: ({ messages, tools, signal }) => {
    state("The model is answering…");
    const [endpoint, ...model] = part("model").value.split(" ");
    return ask({ url, csrf, endpoint, model: model.join(" "), messages, tools, signal });
  },
  call: ({ server, tool }, given, options) => {
    state(`${oneLine(tool.name, 60)} is running…`);
    return new McpClient({ url: server.url, csrf }).callTool(tool, given, options);
  },
  approve: (call, target, signal) => {
    drawNow();
    state(`The model wants to call ${oneLine(target.tool.name, 60)}: allow or deny it above.`);
    const follow = nearEnd();
    const decided = view.approve(call, target, signal);
    scrollToEnd(follow);
    return decided.then((decision) => {
      part("message").focus({ preventScroll: true });
      return decision;
    });
  },
  chosen,
  instructions: () => part("instructions").value.trim(),
  changed,
};

async function run() {
  running = new AbortController();
  running.signal.addEventListener("abort", () => state("Stopping…"));
  showRunning();
  try {
    await converse(conversation, doors, running.signal);
  } finally {
    const stopped = running.signal.aborted;
    running = null;
    drawNow();
    keepNow();
    showRunning();
    showAllowed();
    const last = conversation.items.at(-1);
    state(stopped ? "Stopped." : last?.problem ? "" : "The answer is complete.");
  }
}

function send() {
  const text = part("message").value.trim();
  if (!text || running) return;
  part("message").value = "";
  const item = { role: "user", text };
  conversation.items.push(item);
  changed(item);
  drawNow();
  scrollToEnd(true);
  run();
}

function retry(item) {
  if (running || item !== conversation.items.at(-1)) return;
  conversation.items.pop();
  view.remove(item);
  part("message").focus();
  run();
}

function restart() {
  running?.abort();
  conversation = emptyConversation();
  view.restart([]);
  keepNow();
  showAllowed();
  showEmpty();
  state("");
  say("A new chat has begun.");
  part("message").focus();
}

/** Note that an item changed; many changes are one drawing. */
function changed(item) {
  if (!conversation.items.includes(item)) return; // of a chat that was left
  changedItems.add(item);
  waiting ??= requestAnimationFrame(drawNow);
  keepSoon();
}

function drawNow() {
  cancelAnimationFrame(waiting);
  waiting = null;
  const follow = nearEnd();
  for (const item of changedItems) view.draw(item);
  changedItems.clear();
  showEmpty();
  showAllowed();
  if (follow) scrollToEnd(true);
}

function nearEnd() {
  return part("composer").getBoundingClientRect().bottom - NEAR < innerHeight && innerHeight + scrollY > document.documentElement.scrollHeight - NEAR * 2;
}

function scrollToEnd(always = false) {
  if (always || nearEnd()) scrollTo({ top: document.documentElement.scrollHeight });
  else part("log").lastElementChild?.scrollIntoView({ block: "nearest" });
}

let keeping = null;
function keepSoon() {
  keeping ??= setTimeout(keepNow, KEEP_EVERY);
}

function keepNow() {
  clearTimeout(keeping);
  keeping = null;
  if (!keep(person, conversation)) state("This chat is too large to be there after a reload of the page.");
}

function showRunning() {
  part("stop").hidden = !running;
  part("send").hidden = Boolean(running);
  part("model").disabled = Boolean(running);
}

function showEmpty() {
  part("empty").hidden = conversation.items.length > 0;
  part("new").disabled = conversation.items.length === 0;
}

function showAllowed() {
  const holder = part("allowed");
  const text = conversation.allowed.join("\n");
  if (holder.dataset.shown === text) return;
  holder.dataset.shown = text;
  holder.hidden = !text;
  const buttons = conversation.allowed.map((key) => {
    const name = oneLine(key.split("/").slice(2).join("/"), 60);
    const again = () => {
      conversation.allowed = conversation.allowed.filter((one) => one !== key);
      showAllowed();
      keepNow();
      say(`The model has to ask again before it calls ${name}.`);
    };
    return button(`${name} ×`, again, { class: "small", "aria-label": `Ask again before ${name} is called` });
  });
  holder.replaceChildren("Allowed in this chat:", ...buttons);
}

function showTools() {
  const found = chosen();
  const tools = found.reduce((sum, one) => sum + one.tools.length, 0);
  const words = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
  part("tools").textContent = tools ? `${words(tools, "tool")} of ${words(found.length, "server")} chosen.` : "No tools chosen: the model can only talk.";
}

function state(sentence) {
  part("state").textContent = sentence;
}

function loadSettings() {
  try {
    const { model, instructions } = JSON.parse(localStorage.getItem(settingsKey) ?? "{}");
    if ([...part("model").options].some(({ value }) => value === model)) part("model").value = model;
    part("instructions").value = instructions ?? "";
  } catch {
    localStorage.removeItem(settingsKey);
  }
}

function keepSettings() {
  try {
    localStorage.setItem(settingsKey, JSON.stringify({ model: part("model").value, instructions: part("instructions").value }));
  } catch {
    state("The browser does not keep the model and the instructions.");
  }
}

part("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
part("message").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
part("stop").addEventListener("click", () => {
  running?.abort();
  part("message").focus();
});
part("new").addEventListener("click", restart);
part("model").addEventListener("change", keepSettings);
part("instructions").addEventListener("change", keepSettings);
addEventListener("pagehide", keepNow);
onChange(showTools);
loadSettings();
view.restart(conversation.items);
showRunning();
showEmpty();
showTools();
