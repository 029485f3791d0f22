// Which servers and tools the person chose, kept in this browser under their id. The tools and the chat read it.

const listeners = new Set();
let entries = [];

/**
 * What was chosen and is there: `[{server: {tenant, slug, name, url}, tools: [tool…]}]`.
 *
 * `url` is the playground's door to the server (for McpClient), `tools` are as `tools/list` describes them.
 */
export function chosen() {
  return entries.map(({ server, tools }) => ({ server: { ...server }, tools: [...tools] }));
}

/** Call `listener` after each change of what is chosen. Returns what ends that. */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Take what is chosen from now on; for the module that asks the person. */
export function choose(next) {
  entries = next;
  for (const listener of listeners) listener();
}
