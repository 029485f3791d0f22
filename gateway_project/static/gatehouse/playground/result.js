// What a tool answered, as elements. All of it is untrusted: text is set as text, pictures and sounds come as data of
// few types, nothing is fetched, and what is huge is folded.

import { button, copyButton, download, element } from "./dom.js";
import { jsonTree, pretty } from "./json-tree.js";
import { size, visible, webAddress } from "./text.js";

const TEXT_SHOWN = 20_000;
const TEXT_MOST = 1_000_000;
const MEDIA_MOST = 12 * 1024 * 1024;
const BLOCKS_SHOWN = 50;
const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"];
const SOUNDS = ["audio/mpeg", "audio/mp3", "audio/wav", "audio/x-wav", "audio/ogg", "audio/webm", "audio/mp4", "audio/flac", "audio/aac"];
const DRAWERS = { text, image: media, audio: media, resource_link: resourceLink, resource: embedded };

/** The result of `tools/call` as an element, whatever is in it. */
export function renderResult(result) {
  const holder = element("div", { class: "result" });
  if (result === null || typeof result !== "object") {
    holder.append(notice("The server answered with something that is no result."), fold(String(result)));
    return holder;
  }
  if (result.isError) holder.append(element("p", { class: "state revoked" }, "The tool reports an error"));
  const blocks = Array.isArray(result.content) ? result.content : [];
  const show = (from) => {
    holder.append(...blocks.slice(from, from + BLOCKS_SHOWN).map(block));
    const left = blocks.length - from - BLOCKS_SHOWN;
    if (left > 0) {
      const more = button(`Show ${Math.min(left, BLOCKS_SHOWN)} more of ${left}`, () => {
        more.remove();
        show(from + BLOCKS_SHOWN);
      });
      holder.append(more);
    }
  };
  show(0);
  if (result.structuredContent !== undefined) holder.append(structured(result.structuredContent));
  if (!blocks.length && result.structuredContent === undefined) {
    holder.append(element("p", { class: "muted" }, "The tool answered, with nothing in it."));
  }
  return holder;
}

function block(one) {
  const draw = Object.hasOwn(DRAWERS, one?.type) ? DRAWERS[one.type] : unknown;
  try {
    return draw(one);
  } catch (error) {
    // Thrown by what has another shape than its type promises: a number where text belongs, or broken Base64.
    if (!(error instanceof TypeError || error instanceof DOMException)) throw error;
    return unknown(one);
  }
}

function text(one) {
  if (typeof one.text !== "string") throw new TypeError("no text");
  return fold(one.text);
}

/** Text as text; a long one is folded, and a huge one is only for saving. */
function fold(whole) {
  const box = element("pre", { class: "block", tabindex: "0", role: "group", "aria-label": "Text" }, visible(whole.slice(0, TEXT_SHOWN)));
  if (whole.length <= TEXT_SHOWN) return box;
  const bar = element("div", { class: "line block-more" }, element("span", { class: "muted small" }, `The first ${TEXT_SHOWN} of ${whole.length} characters.`));
  if (whole.length <= TEXT_MOST) {
    const all = button("Show all", () => {
      box.textContent = visible(whole);
      all.remove();
      bar.firstChild.textContent = `${whole.length} characters.`;
    }, { class: "small" });
    bar.append(all);
  }
  bar.append(button("Download", () => download(new Blob([whole], { type: "text/plain" }), "result.txt"), { class: "small" }));
  return element("div", {}, box, bar);
}

function media(one) {
  const type = typeof one.mimeType === "string" ? one.mimeType.toLowerCase().split(";")[0].trim() : "";
  const allowed = one.type === "image" ? IMAGES : SOUNDS;
  if (typeof one.data !== "string") throw new TypeError("no data");
  const bytes = Math.floor((one.data.length * 3) / 4);
  const words = `${type || "unknown type"}, ${size(bytes)}`;
  if (bytes > MEDIA_MOST) return held(one, `Too large to show here (${words}).`);
  if (!allowed.includes(type)) return held(one, `A file of a type that is not shown here (${words}).`);
  const blob = decoded(one.data, type);
  const save = button("Download", () => download(blob, `result.${type.split("/")[1].replace(/\W/g, "")}`), { class: "small" });
  const foot = element("figcaption", { class: "line muted small" }, words, save);
  const broken = () => figure.firstChild.replaceWith(notice(`This is not a file of its type (${words}).`));
  const url = `data:${type};base64,${one.data.replace(/\s/g, "")}`;
  const shown =
    one.type === "image"
      ? element("img", { src: url, alt: "Picture in the tool's answer", onerror: broken })
      : element("audio", { src: url, controls: true, onerror: broken });
  const figure = element("figure", { class: "block" }, shown, foot);
  return figure;
}

function decoded(data, type) {
  return new Blob([Uint8Array.from(atob(data), (char) => char.charCodeAt(0))], { type });
}

/** What is not shown can be saved: never under a type that a browser would open as a page. */
function held(one, sentence) {
  const data = one.data ?? one.blob;
  const save = button("Download", () => {
    try {
      download(decoded(data, "application/octet-stream"), "result.bin");
    } catch {
      save.replaceWith(element("span", { class: "muted small" }, "It is not readable."));
    }
  }, { class: "small" });
  return element("div", { class: "block line" }, element("span", {}, sentence), save);
}

function resourceLink(one) {
  const title = one.title || one.name || "Resource";
  return element("div", { class: "block" },
    element("p", {}, element("strong", {}, visible(title)), one.mimeType ? element("span", { class: "muted small" }, ` ${visible(one.mimeType)}`) : null),
    typeof one.description === "string" ? element("p", { class: "muted small" }, visible(one.description)) : null,
    address(one.uri));
}

function address(uri) {
  if (typeof uri !== "string") throw new TypeError("no address");
  const href = webAddress(uri);
  const shown = visible(uri);
  if (!href) return element("p", { class: "uri" }, element("code", {}, shown));
  return element("p", { class: "uri" }, element("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, shown));
}

function embedded(one) {
  const inner = one.resource ?? {};
  const kind = typeof inner.mimeType === "string" ? ` ${visible(inner.mimeType)}` : "";
  const content = typeof inner.text === "string" ? fold(inner.text) : embeddedFile(inner);
  return element("div", { class: "block resource" },
    element("p", {}, element("strong", {}, "Embedded resource"), element("span", { class: "muted small" }, kind)), address(inner.uri), content);
}

function embeddedFile(inner) {
  if (typeof inner.blob !== "string") throw new TypeError("no content");
  const type = String(inner.mimeType ?? "").toLowerCase().split(";")[0].trim();
  if (IMAGES.includes(type)) return media({ type: "image", mimeType: type, data: inner.blob });
  if (SOUNDS.includes(type)) return media({ type: "audio", mimeType: type, data: inner.blob });
  return held(inner, `${size(Math.floor((inner.blob.length * 3) / 4))} of data.`);
}

function structured(value) {
  const copy = copyButton(() => pretty(value), "Copy the structured content");
  return element("section", { class: "block structured" },
    element("div", { class: "line" }, element("h4", {}, "Structured content"), element("span", { class: "push" }, copy)), jsonTree(value));
}

function unknown(one) {
  return element("div", { class: "block" }, notice("A part of the answer that this page cannot show; this is what came."), jsonTree(one));
}

function notice(sentence) {
  return element("p", { class: "muted small" }, sentence);
}
