// Rows of a header's name and a write-only value: reveal what is typed, add a row.

export function headerRows(form) {
  const box = form.querySelector(".gh-headers");
  if (!box) return;
  for (const button of box.querySelectorAll(".gh-reveal")) button.hidden = false;
  box.addEventListener("click", (event) => {
    const button = event.target.closest(".gh-reveal");
    if (!button) return;
    const input = button.parentElement.querySelector("input");
    const shown = input.type === "text";
    input.type = shown ? "password" : "text";
    button.textContent = shown ? "Show" : "Hide";
    button.setAttribute("aria-pressed", String(!shown));
  });
  const add = box.querySelector(".gh-add-header");
  add.hidden = false;
  add.addEventListener("click", () => {
    const rows = box.querySelectorAll(".gh-header-row");
    if (rows.length >= 20) return;
    const fresh = rows[rows.length - 1].cloneNode(true);
    const number = rows.length;
    for (const part of fresh.querySelectorAll("[name], [id], [for]")) {
      for (const attribute of ["name", "id", "for"]) {
        const value = part.getAttribute(attribute);
        if (value) part.setAttribute(attribute, value.replace(/-\d+-/, `-${number}-`));
      }
    }
    for (const input of fresh.querySelectorAll("input")) input.value = "";
    for (const note of fresh.querySelectorAll(".gh-note, .gh-remove")) note.remove();
    fresh.querySelector("legend").textContent = `Header ${number + 1}`;
    rows[rows.length - 1].after(fresh);
    fresh.querySelector("input:not([type=hidden])").focus();
  });
}
