// Numbers and times as text, in the same words as present.py.
export const NOTHING = "—";
const number = new Intl.NumberFormat("en");
const oneDigit = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const UNITS = [[86400000, "d"], [3600000, "h"], [60000, "min"], [1000, "s"]];

export function count(value) {
  return value == null ? NOTHING : number.format(Math.round(value));
}

export function clip(text, most) {
  const characters = [...text];
  return characters.length > most ? `${characters.slice(0, most).join("")}…` : text;
}

export function rate(value) {
  if (value == null) return NOTHING;
  return value > 0 && value < 10 ? oneDigit.format(value) : count(value);
}

export function span(ms) {
  if (ms == null) return NOTHING;
  if (ms < 10) return ms % 1 ? `${ms.toFixed(1)} ms` : `${ms} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60000) return `${Number((ms / 1000).toPrecision(3))} s`;
  const parts = [];
  let rest = Math.round(ms);
  for (const [size, unit] of UNITS) {
    const units = Math.floor(rest / size);
    rest %= size;
    if (units) parts.push(`${units} ${unit}`);
    else if (parts.length) break;
  }
  return parts.slice(0, 2).join(" ");
}

// The server writes times in UTC. Here they are in the words and the zone of whoever reads.
export function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue;
    const distance = at - Date.now();
    time.title = `${at.toLocaleString()} here, ${time.textContent}`;
    const far = Math.abs(distance);
    if (far < 1000) time.textContent = "now";
    else if (far < 7 * 86400000) time.textContent = distance > 0 ? `in ${span(rough(far))}` : `${span(rough(far))} ago`;
    else time.textContent = at.toLocaleDateString(undefined, { year: "numeric", month: "short", day: "numeric" });
  }
}

function rough(ms) {
  return ms < 60000 ? Math.round(ms / 1000) * 1000 : ms;
}
