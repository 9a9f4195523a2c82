// The charts of the overview: history from the server, then a point each second.
import { count, rate, span } from "./texts.js";

const LENGTH = { second: 300, minute: 1440 };
const HEIGHT = 180;
// Steps of an axis of times, in milliseconds, so that its marks are whole minutes and hours.
const TIMES = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 3e4, 6e4, 12e4, 3e5, 6e5, 12e5, 18e5,
  36e5, 72e5, 144e5, 288e5, 432e5, 864e5, 1728e5, 4320e5, 8640e5, 25920e5];
const clock = (at) => new Date(at * 1000).toLocaleTimeString("en-GB", step === "minute" ? { hour: "2-digit", minute: "2-digit" } : {});
const per = (name) => (point, seconds) => point[name] / seconds;
const depth = (name) => (point) => point.counts[name];
const own = (name) => (point) => point[name] ?? null;

const CHARTS = {
  flow: {
    form: rate,
    series: [["enqueued", "blue", per("enqueued")], ["completed", "green", per("completed")], ["failed", "red", per("failed")]],
  },
  depth: {
    form: count,
    series: [
      ["ready", "blue", depth("ready")], ["in flight", "amber", depth("in_flight")], ["scheduled", "violet", depth("scheduled")],
      ["completed", "green", depth("completed")], ["dead", "red", depth("dead")],
    ],
  },
  wait: { form: span, series: [["p50", "blue", own("wait_p50_ms")], ["p95", "violet", own("wait_p95_ms")]] },
  run: { form: span, series: [["p50", "blue", own("run_p50_ms")], ["p95", "violet", own("run_p95_ms")]] },
  oldest: { form: span, series: [["age", "amber", own("oldest_ready_ms")]] },
};

let step = "second";
let points = [];
let drawn = [];

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function columns({ series }) {
  const seconds = step === "minute" ? 60 : 1;
  return [points.map((point) => point.at / 1000), ...series.map(([, , value]) => points.map((point) => value(point, seconds)))];
}

// What the legend says: the value that is pointed at, or else the last.
function shown(form) {
  return (plot, value, index, at) => {
    const known = at == null ? plot.data[index].at(-1) : value;
    return known == null ? "—" : form(known);
  };
}

function options({ form, series }, width) {
  const axis = { stroke: colour("faint"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  return {
    width,
    height: HEIGHT,
    cursor: { drag: { x: false, y: false }, points: { size: 6 } },
    legend: { live: true, markers: { width: 0, fill: (_, index) => colour(series[index - 1]?.[1] ?? "faint") } },
    scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: [
      { ...axis, space: 80, size: 30, values: (_, ticks) => ticks.map(clock) },
      { ...axis, size: 70, values: (_, ticks) => ticks.map(form), ...(form === span && { incrs: TIMES }) },
    ],
    series: [
      {},
      ...series.map(([label, name]) => ({ label, stroke: colour(name), width: 1.6, points: { show: false }, value: shown(form) })),
    ],
  };
}

// In words, for those who do not see it.
function describe(box, { form, series }) {
  const last = points[points.length - 1];
  if (!last) return;
  const seconds = step === "minute" ? 60 : 1;
  const values = series.map(([label, , value]) => `${label} ${form(value(last, seconds))}`).join(", ");
  box.setAttribute("aria-label", `${box.dataset.name}, ${step === "minute" ? "24 hours" : "5 minutes"}; last: ${values}`);
}

export function redraw() {
  for (const { plot } of drawn) plot.destroy();
  drawn = [...document.querySelectorAll("[data-chart]")].map((box) => {
    const chart = CHARTS[box.dataset.chart];
    box.dataset.name ??= box.getAttribute("aria-label");
    describe(box, chart);
    return { box, chart, plot: new uPlot(options(chart, box.clientWidth), columns(chart), box) };
  });
}

async function load() {
  const asked = step;
  const response = await fetch(`/history?step=${asked}`);
  if (!response.ok || response.redirected) return;
  const found = await response.json();
  if (asked !== step) return;
  points = found;
  update();
}

function update() {
  for (const { box, chart, plot } of drawn) {
    plot.setData(columns(chart));
    describe(box, chart);
  }
}

function add(point) {
  if (!point || step !== "second" || (points.length && point.at <= points[points.length - 1].at)) return;
  points = [...points.slice(1 - LENGTH.second), point];
  update();
}

export function startCharts() {
  redraw();
  load().catch(() => {});
  setInterval(() => step === "minute" && !document.hidden && load().catch(() => {}), 60000);
  document.addEventListener("visibilitychange", () => document.hidden || load().catch(() => {}));
  for (const button of document.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => {
      step = button.dataset.step;
      for (const other of document.querySelectorAll("[data-step]")) other.setAttribute("aria-pressed", String(other === button));
      points = [];
      load().catch(() => {});
    });
  }
  new ResizeObserver(() => {
    for (const { box, plot } of drawn) if (box.clientWidth !== plot.width) plot.setSize({ width: box.clientWidth, height: HEIGHT });
  }).observe(document.querySelector(".charts"));
  return add;
}
