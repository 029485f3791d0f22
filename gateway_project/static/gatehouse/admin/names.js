// Names for the controls of Django's admin that have none of their own, for those who cannot see the table around them.

function name(control, text) {
  const words = text.trim().replace(/[:\s]+/g, " ").trim();
  if (words && !control.labels?.length && !control.ariaLabel) control.ariaLabel = words;
}

function heading(cell) {
  const column = cell.closest("table")?.tHead?.rows[0]?.cells;
  if (!column) return "";
  // The first cell of a row that is saved spans nothing, its head spans two.
  const fromEnd = cell.parentElement.cells.length - cell.cellIndex;
  return column[column.length - fromEnd]?.textContent ?? "";
}

function nameInTable(cell) {
  const column = heading(cell);
  for (const control of cell.querySelectorAll("input:not([type=hidden]), select, textarea")) {
    const part = control.classList.contains("vDateField") ? "date" : control.classList.contains("vTimeField") ? "time" : "";
    name(control, `${column} ${part}`);
  }
}

function nameChoosers(root) {
  // select2 names its box after the text in it, which is empty at first.
  for (const box of root.querySelectorAll(".select2-selection[role=combobox]")) {
    const select = box.closest(".select2")?.previousElementSibling;
    const text = select?.labels?.[0]?.textContent ?? (select?.closest("td") ? heading(select.closest("td")) : "");
    const words = (select?.ariaLabel || text).trim().replace(/:$/, "");
    if (!words) continue;
    const shown = box.querySelector(".select2-selection__rendered");
    box.removeAttribute("aria-labelledby");
    box.ariaLabel = shown?.textContent.trim() ? `${words}: ${shown.title || shown.textContent.trim()}` : words;
    shown?.setAttribute("aria-label", words);
  }
}

function nameAll(root) {
  root.querySelectorAll(".tabular td").forEach(nameInTable);
  for (const part of root.querySelectorAll(".vDateField, .vTimeField")) {
    const row = part.closest(".form-row")?.querySelector("label, legend");
    if (row) name(part, `${row.textContent.replace(":", "")} ${part.classList.contains("vDateField") ? "date" : "time"}`);
  }
  for (const search of root.querySelectorAll("#searchbar")) search.ariaLabel = "Search";
  for (const tip of root.querySelectorAll(".help-tooltip[aria-label]")) tip.setAttribute("role", "img");
  nameChoosers(root);
}

nameAll(document);
document.addEventListener("formset:added", (event) => nameAll(event.target));
// select2 dresses fields up when jQuery is ready, which may be after the page has loaded; its events are jQuery's only.
addEventListener("load", () => {
  const jQuery = globalThis.django?.jQuery;
  if (!jQuery) return;
  jQuery(() => nameAll(document));
  jQuery(document).on("select2:select select2:clear", (event) => nameChoosers(event.target.parentElement));
  jQuery(document).on("formset:added", (event) => nameAll(event.target));
});
