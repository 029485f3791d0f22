// Text from elsewhere, made safe to look at: nothing in it moves a cursor, hides, or turns the reading direction.

/* eslint-disable no-control-regex */
const ANSI = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g;
// Controls except tab and line feed; bidirectional overrides and isolates; what has no width; tags; annotations.
const INVISIBLE =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** `text` without terminal colours, and with each character that one would not see written out as `‹U+202E›`. */
export function visible(text) {
  return String(text)
    .replace(ANSI, "")
    .replaceAll("\r\n", "\n")
    .replace(INVISIBLE, (one) => `‹U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`);
}

/** The same in one line of at most `most` characters. */
export function oneLine(text, most = 120) {
  const line = visible(String(text).slice(0, most * 8)).replace(/\s+/g, " ").trim();
  return line.length > most ? `${line.slice(0, most - 1)}…` : line;
}

/** The address if a browser may open it from here (http and https), else null. */
export function webAddress(text) {
  try {
    const url = new URL(text);
    return ["http:", "https:"].includes(url.protocol) && !url.username && !url.password ? url.href : null;
  } catch {
    return null;
  }
}

/** Bytes in the unit that people read. */
export function size(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  return bytes < 1024 * 1024 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}
