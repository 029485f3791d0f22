// Names under which the model knows the chosen tools: its endpoint takes at most 64 letters, digits, _ and -.

const LONGEST = 64;
const MOST_DESCRIPTION = 4000;

/**
 * The tools of a selection as the model gets them, and the way back from a name to the tool.
 *
 * Returns `{offered: [{name, description, parameters}], byName: Map(name → {server, tool})}`. Each name is there once.
 */
export function nameTools(chosen) {
  const offered = [];
  const byName = new Map();
  for (const { server, tools } of chosen) {
    for (const tool of tools) {
      const name = freeName(server, tool, byName);
      byName.set(name, { server, tool });
      const words = [`${tool.title ?? tool.annotations?.title ?? ""}`, `${tool.description ?? ""}`].filter(Boolean);
      offered.push({ name, description: words.join("\n").slice(0, MOST_DESCRIPTION), parameters: schemaOf(tool) });
    }
  }
  return { offered, byName };
}

/** What of a name that a model made up can stand in the conversation. */
export function safeName(name) {
  return String(name).replace(/[^A-Za-z0-9_-]/g, "_").slice(0, LONGEST) || "unknown";
}

function freeName(server, tool, taken) {
  const whole = `${server.slug}__${tool.name}`;
  const plain = safeName(whole);
  if (plain === whole && !taken.has(plain)) return plain;
  // From what the tool is, not from its place in the list: a name stays the same when others are chosen or not.
  const mark = hash(`${server.tenant}/${whole}`);
  for (let number = 0; ; number += 1) {
    const end = `_${mark}${number || ""}`;
    const name = `${plain.slice(0, LONGEST - end.length)}${end}`;
    if (!taken.has(name)) return name;
  }
}

function schemaOf(tool) {
  const schema = tool.inputSchema;
  const isObject = schema !== null && typeof schema === "object" && !Array.isArray(schema);
  return isObject ? { ...schema, type: "object", properties: schema.properties ?? {} } : { type: "object", properties: {} };
}

/** FNV-1a, as few letters. */
function hash(text) {
  let value = 0x811c9dc5;
  for (const char of text) value = Math.imul(value ^ char.codePointAt(0), 0x01000193);
  return (value >>> 0).toString(36);
}
