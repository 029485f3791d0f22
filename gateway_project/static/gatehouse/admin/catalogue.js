// Catalogue pages: choose all rows of a page, say how many are chosen, and say that a reading runs.
// Everything here is a convenience; the pages work without it.
"use strict";

for (const form of document.querySelectorAll("form.gh-rows")) {
  const boxes = [...form.querySelectorAll("input[name=item]")];
  const all = form.querySelector("input[data-all]");
  const words = form.querySelector("[data-chosen]");
  const said = words.textContent;
  const tell = () => {
    const count = boxes.filter((box) => box.checked).length;
    words.textContent = count ? `${count} chosen` : said;
    all.checked = count === boxes.length;
    all.indeterminate = count > 0 && count < boxes.length;
  };
  all.closest("label").hidden = false;
  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
    tell();
  });
  form.addEventListener("change", tell);
  tell();
}

for (const form of document.querySelectorAll("form[data-progress]")) {
  form.addEventListener("submit", () => {
    form.querySelector("[role=status]").textContent = form.dataset.progress;
    // After the submission has begun, or the browser would leave it out.
    setTimeout(() => { form.querySelector("button").disabled = true; });
  });
}
// A page that comes back out of the browser's memory is not reading.
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-progress]")) {
    form.querySelector("button").disabled = false;
    form.querySelector("[role=status]").textContent = "";
  }
});
