/** Light, dark, or what the machine has. */
import { createStore, useStore } from "./store.js";

const CHOSEN = "glad.theme";
const THEMES = /** @type {const} */ (["auto", "light", "dark"]);
const theme = createStore(THEMES.find((one) => one === localStorage.getItem(CHOSEN)) ?? "auto");

export function applyTheme() {
  document.documentElement.dataset.theme = theme.get();
}

export function useTheme() {
  return useStore(theme);
}

export function nextTheme() {
  theme.set(THEMES[(THEMES.indexOf(theme.get()) + 1) % THEMES.length]);
  localStorage.setItem(CHOSEN, theme.get());
  applyTheme();
}
