// Making elements without markup: whatever a server said is set as text and never parsed.

let made = 0;

/**
 * An element with attributes and children.
 *
 * `true` sets an attribute, `false` and `null` leave it out, a function listens to the event of its name
 * (`onclick`). Children are elements or texts; null ones are left out.
 */
export function element(name, attributes = {}, ...children) {
  const one = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") one.addEventListener(key.slice(2), value);
    else one.setAttribute(key, value === true ? "" : value);
  }
  one.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return one;
}

/** A button that does not send a form. */
export function button(text, onclick, attributes = {}) {
  return element("button", { type: "button", onclick, ...attributes }, text);
}

/** An id that no other element of the page has. */
export function newId(word) {
  made += 1;
  return `${word}-${made}`;
}

/** A button that copies what `text()` returns and says so. */
export function copyButton(text, label) {
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(text());
      say("Copied to the clipboard.");
      copy.textContent = "Copied";
    } catch {
      say("The browser did not let the page copy. Select the text and copy it.");
      copy.textContent = "Not copied";
    }
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  }, { class: "small", "aria-label": label });
  return copy;
}

/** Let the browser save `blob` as a file. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const said = element("div", { class: "hidden", role: "status" });
document.body.append(said);

/** Say a sentence to people who hear the page. */
export function say(sentence) {
  said.textContent = sentence;
}
