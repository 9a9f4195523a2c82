// The live figures: one stream of samples, only while the page is seen.
import { clip, count, rate, span } from "./texts.js";

const FORMS = { count, rate, span };
const RETRY_MS = 5000;
// How often a screen reader hears a summary; figures change each second.
const ANNOUNCE_MS = 60000;

let stream = null;
let announced = Date.now();

function say(text) {
  document.getElementById("live").textContent = text;
}

function find(value, path) {
  return path.split(".").reduce((inner, name) => (inner == null ? inner : inner[name]), value);
}

function showFigures(overview) {
  for (const figure of document.querySelectorAll("[data-live]")) {
    const text = FORMS[figure.dataset.form](find(overview, figure.dataset.live));
    if (figure.textContent !== text) figure.textContent = text;
  }
  const trouble = document.getElementById("trouble");
  if (trouble) {
    trouble.querySelector("span").textContent = overview.trouble || "";
    trouble.hidden = !overview.trouble;
  }
}

function showOldest(queues) {
  const body = document.getElementById("oldest");
  if (!body || body.contains(document.activeElement)) return;
  body.replaceChildren(...queues.map((one) => row(one, queues[0].oldest_ready_ms)));
  if (!queues.length) {
    const cell = body.insertRow().insertCell();
    cell.className = "faint";
    cell.textContent = "No job is ready.";
  }
}

function row(one, most) {
  const made = document.createElement("tr");
  const name = document.createElement("th");
  name.scope = "row";
  const link = document.createElement("a");
  link.href = `/jobs?${new URLSearchParams({ queue: one.queue, status: "ready", order: "asc" })}`;
  link.textContent = clip(one.queue, 40);
  link.title = one.queue;
  name.append(link);
  const meter = document.createElement("meter");
  meter.max = most || 1;
  meter.value = one.oldest_ready_ms;
  meter.setAttribute("aria-hidden", "true");
  const bar = document.createElement("td");
  bar.append(meter);
  const age = document.createElement("td");
  age.className = "number";
  age.textContent = span(one.oldest_ready_ms);
  made.append(name, bar, age);
  return made;
}

function announce(overview) {
  if (Date.now() - announced < ANNOUNCE_MS || !document.querySelector("[data-live]")) return;
  announced = Date.now();
  const { counts, flow } = overview;
  document.getElementById("announce").textContent =
    `${count(counts.ready)} ready, ${count(counts.in_flight)} in flight, ${count(counts.dead)} dead; ` +
    `${rate(flow.completed_per_s)} completed a second.`;
}

export function startLive(onSample) {
  const open = () => {
    if (stream || document.hidden) return;
    stream = new EventSource("/live");
    stream.onopen = () => say("live");
    stream.onmessage = (event) => {
      const { overview, point, queues } = JSON.parse(event.data);
      say("live");
      showFigures(overview);
      showOldest(queues);
      announce(overview);
      onSample(point);
    };
    stream.onerror = () => {
      close();
      say("not live: trying again");
      setTimeout(open, RETRY_MS);
    };
  };
  const close = () => {
    stream?.close();
    stream = null;
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
}
