/** Light, dark, or what the machine has. */
import { createStore, useStore } from "./store.js";

const CHOSEN = "glad.theme";
const THEMES = /** @type {const} */ (["auto", "light", "dark"]);
const theme = createStore(THEMES.find((one) => one === localStorage.getItem(CHOSEN)) ?? "auto");

const machine = matchMedia("(prefers-color-scheme: dark)");
machine.addEventListener("change", applyTheme);

/** Set the colours that were chosen; `auto`: those of the machine, also when they change. */
export function applyTheme() {
  const chosen = theme.get();
  document.documentElement.dataset.theme = chosen !== "auto" ? chosen : machine.matches ? "dark" : "light";
}

export function useTheme() {
  return useStore(theme);
}

export function nextTheme() {
  theme.set(THEMES[(THEMES.indexOf(theme.get()) + 1) % THEMES.length]);
  localStorage.setItem(CHOSEN, theme.get());
  applyTheme();
}
