// A small MCP client (2026-07-28) for the gateway's own pages. It speaks to the same path as every IDE does; only who
// calls is known from the page's session. One object per server; nothing is kept between two calls.

export const VERSION = "2026-07-28";
const META = "io.modelcontextprotocol/";
const MOST_PAGES = 200;
const NAMES = { "tools/call": "name", "prompts/get": "name", "resources/read": "uri" };

/** What a failed call throws. `code` is the gateway's own word or a JSON-RPC number, `data` what came with it. */
export class CallError extends Error {
  constructor(message, { code = null, data = null, status = 0 } = {}) {
    super(message);
    this.name = "CallError";
    Object.assign(this, { code, data, status });
  }
}

/** The header value that stands for a text: itself, or Base64 between sentinels (SV-1). */
export function headerValue(text) {
  const looksEncoded = text.startsWith("=?base64?") && text.endsWith("?=");
  if (/^[\x20-\x7e]*$/.test(text) && text === text.trim() && !looksEncoded) return text;
  const bytes = new TextEncoder().encode(text);
  return `=?base64?${btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))}?=`;
}

/** Headers for the arguments that a tool's schema wants mirrored in `Mcp-Param-…` (SV-3). */
export function parameterHeaders(schema, given, headers = {}) {
  for (const [name, one] of Object.entries(schema?.properties ?? {})) {
    if (!given || !Object.hasOwn(given, name) || typeof one !== "object" || one === null) continue;
    const value = given[name];
    if (typeof one["x-mcp-header"] === "string" && ["string", "number", "boolean"].includes(typeof value)) {
      headers[`Mcp-Param-${one["x-mcp-header"]}`] = headerValue(String(value));
    } else if (one.properties) {
      parameterHeaders(one, value, headers);
    }
  }
  return headers;
}

export class McpClient {
  #url;
  #csrf;
  #number = 0;

  /** `url`: the playground's door to one server. `csrf`: the page's token. */
  constructor({ url, csrf }) {
    this.#url = url;
    this.#csrf = csrf;
  }

  /** All tools of the server, every page of them. */
  async listTools({ signal } = {}) {
    const tools = [];
    let cursor;
    for (let page = 0; page < MOST_PAGES; page += 1) {
      const { result } = await this.request("tools/list", cursor === undefined ? {} : { cursor }, { signal });
      tools.push(...(result.tools ?? []));
      cursor = result.nextCursor;
      if (cursor === undefined || cursor === null) return tools;
    }
    throw new CallError("The server's list of tools does not end.");
  }

  /** Call a tool as `tools/list` described it. */
  callTool(tool, given, options = {}) {
    const headers = parameterHeaders(tool.inputSchema, given);
    return this.request("tools/call", { name: tool.name, arguments: given }, { ...options, headers });
  }

  /**
   * Send one request and read its answer, whichever form it has.
   *
   * Returns `{result, exchange}`; throws CallError, with `exchange` on it too. `exchange` is what went over the line:
   * `{request, messages, status, milliseconds, requestId}`. `onMessage` is called with each notification as it
   * comes, progress among them. Aborting `signal` cancels the call. `capabilities` are those of the page.
   */
  async request(method, params, { signal, onMessage, headers = {}, capabilities = {}, extra = {} } = {}) {
    this.#number += 1;
    const id = this.#number;
    const body = {
      jsonrpc: "2.0",
      id,
      method,
      params: {
        ...params,
        ...extra,
        _meta: {
          [`${META}protocolVersion`]: VERSION,
          [`${META}clientInfo`]: { name: "gatehouse-playground", version: "1" },
          [`${META}clientCapabilities`]: capabilities,
          progressToken: `page-${id}`,
        },
      },
    };
    const exchange = { request: body, messages: [], status: 0, milliseconds: 0, requestId: "" };
    const began = performance.now();
    try {
      const response = await fetch(this.#url, {
        method: "POST",
        signal,
        redirect: "error",
        headers: {
          "Content-Type": "application/json",
          Accept: "application/json, text/event-stream",
          "X-CSRFToken": this.#csrf,
          "MCP-Protocol-Version": VERSION,
          "Mcp-Method": method,
          ...(NAMES[method] ? { "Mcp-Name": headerValue(String(params[NAMES[method]])) } : {}),
          ...headers,
        },
        body: JSON.stringify(body),
      });
      exchange.status = response.status;
      exchange.requestId = response.headers.get("X-Request-Id") ?? "";
      const answer = await this.#answer(response, id, exchange, onMessage);
      if (answer.error) {
        const { code, message, data } = answer.error;
        throw new CallError(message || "The server gave no reason.", { code, data, status: response.status });
      }
      return { result: answer.result ?? {}, exchange };
    } catch (error) {
      const known = error instanceof CallError || error.name === "AbortError";
      const told = known ? error : new CallError("The gateway could not be reached. Look at your connection and try again.");
      told.exchange = exchange;
      throw told;
    } finally {
      exchange.milliseconds = Math.round(performance.now() - began);
    }
  }

  async #answer(response, id, exchange, onMessage) {
    const type = (response.headers.get("Content-Type") ?? "").split(";")[0];
    if (type === "text/event-stream") {
      for await (const message of events(response.body)) {
        exchange.messages.push(message);
        if (message.id === id && (message.result !== undefined || message.error)) return message;
        onMessage?.(message);
      }
      throw new CallError("The connection ended before the answer came. The call may have run.", { status: response.status });
    }
    const text = await response.text();
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      const reason = response.status === 403 ? "This page is too old. Reload it." : "The gateway gave no answer that can be read.";
      throw new CallError(reason, { status: response.status });
    }
    exchange.messages.push(message);
    if (message.result !== undefined || message.error) return message;
    throw new CallError(message.detail ?? "The gateway refused the request.", { code: message.code, status: response.status });
  }
}

/** The JSON messages of an event stream, as they come. What is not JSON is left out. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  let lines = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      waiting += value;
      const parts = waiting.split(/\r\n|\n|\r(?!$)/);
      waiting = parts.pop();
      for (const line of parts) {
        if (line.startsWith("data:")) lines.push(line.slice(line[5] === " " ? 6 : 5));
        if (line !== "" || !lines.length) continue;
        const message = parsed(lines.join("\n"));
        lines = [];
        if (message) yield message;
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
