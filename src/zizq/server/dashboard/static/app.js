// What pages do beyond HTML: times in words, live figures, charts, the palette, the theme.
import { startCharts, redraw } from "./charts.js";
import { startLive } from "./live.js";
import { startPalette } from "./palette.js";
import { localTimes } from "./texts.js";

const THEMES = ["system", "light", "dark"];
const SIGNS = { system: "◐", light: "☀", dark: "☾" };
const NAMES = { system: "as the system", light: "light", dark: "dark" };

function showTheme() {
  const chosen = document.documentElement.dataset.theme || "system";
  const button = document.getElementById("theme");
  button.textContent = SIGNS[chosen];
  button.setAttribute("aria-label", `Theme: ${NAMES[chosen]}`);
  redraw();
}

export function nextTheme() {
  const root = document.documentElement;
  const chosen = THEMES[(THEMES.indexOf(root.dataset.theme || "system") + 1) % THEMES.length];
  if (chosen === "system") {
    delete root.dataset.theme;
    localStorage.removeItem("zizq-theme");
  } else {
    root.dataset.theme = chosen;
    localStorage.setItem("zizq-theme", chosen);
  }
  showTheme();
}

// Lists are read anew every few seconds, unless somebody is just using them.
const REFRESH_MS = 5000;

async function refresh() {
  const part = document.querySelector("[data-refresh]");
  if (!part || document.hidden || part.contains(document.activeElement) || part.querySelector("details[open]")) return;
  const response = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!response.ok || response.redirected) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html").querySelector("[data-refresh]");
  if (!fresh || part.contains(document.activeElement)) return;
  localTimes(fresh);
  part.replaceWith(fresh);
}

function start() {
  localTimes(document);
  document.querySelector("nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
  showTheme();
  document.getElementById("theme").addEventListener("click", nextTheme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  if (!document.getElementById("palette")) return;
  startPalette(nextTheme);
  const onSample = document.querySelector("[data-chart]") ? startCharts() : () => {};
  startLive(onSample);
  setInterval(() => refresh().catch(() => {}), REFRESH_MS);
}

start();
