// What a tool answered, as elements. All of it is untrusted: text is set as text, and nothing is fetched.

/** The result of `tools/call` as an element. */
export function renderResult(result) {
  const shown = document.createElement("pre");
  shown.textContent = JSON.stringify(result, null, 2);
  return shown;
}
