// Times in the reader's zone. The server writes UTC; without this module that is what is read, and it says so.

const shown = new Intl.DateTimeFormat("en-GB", {
  day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
});
const whole = new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeStyle: "long" });
const universal = new Intl.DateTimeFormat("en-GB", {
  timeZone: "UTC", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
});
const zone = shown.resolvedOptions().timeZone;

function put(element, moment) {
  element.title = `${whole.format(moment)} (${universal.format(moment)} UTC)`;
  // “5 minutes ago” is true in every zone, and a day without a time has none.
  if (/\d:\d\d/.test(element.textContent)) element.textContent = shown.format(moment);
}

/** Rewrites every `<time datetime>` below `root`, once. */
export function localise(root = document) {
  for (const element of root.querySelectorAll("time[datetime]:not([data-local])")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    put(element, moment);
    element.dataset.local = "";
  }
}

const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
const WRITTEN = /^([A-Z][a-z]{2})[a-z]*\.? (\d{1,2}), (\d{4}), (?:(\d{1,2})(?::(\d{2}))? ([ap])\.m\.|(noon|midnight))$/;

/** The moment of a text as Django's admin writes it in lists (UTC), or null. */
export function read(text) {
  const found = WRITTEN.exec(text.trim());
  const month = found ? MONTHS.indexOf(found[1]) : -1;
  if (month < 0) return null;
  const [, , day, year, hour, minute, half, word] = found;
  const hours = word ? (word === "noon" ? 12 : 0) : (Number(hour) % 12) + (half === "p" ? 12 : 0);
  return new Date(Date.UTC(Number(year), month, Number(day), hours, Number(minute ?? 0)));
}

function localiseAdmin() {
  for (const cell of document.querySelectorAll("#result_list :is(td, th, a), .form-row .readonly, #change-history :is(td, th)")) {
    const moment = cell.childElementCount ? null : read(cell.textContent);
    if (!moment) continue;
    const time = document.createElement("time");
    time.dateTime = moment.toISOString();
    time.textContent = shown.format(moment);
    cell.replaceChildren(time);
  }
}

localiseAdmin();
localise();
for (const said of document.querySelectorAll("[data-zone]")) said.textContent = `Times are in your zone, ${zone}.`;
