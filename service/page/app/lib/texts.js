/** Texts, dates and numbers in the reader's language. The texts lie in /page/texts, one file a language. */
import { Problem } from "./api.js";

export const LANGUAGES = { en: "English", de: "Deutsch", zh: "中文" };
const CHOSEN = "glad.language";
const LOCALES = { en: "en-GB", de: "de-DE", zh: "zh-CN" };

/** @typedef {keyof typeof LANGUAGES} Language */
/** @type {Record<string, string | Record<string, string>>} */
let texts = {};
/** @type {Language} */
let language = "en";

/** Return the language that was chosen here, else the browser's first that we have, else English. */
export function preferredLanguage() {
  const wanted = [localStorage.getItem(CHOSEN) ?? "", ...navigator.languages];
  const found = wanted.map((one) => one.slice(0, 2).toLowerCase()).find((one) => one in LANGUAGES);
  return /** @type {Language} */ (found ?? "en");
}

/** @param {Language} chosen its texts are loaded, or Problem thrown; the page is to be drawn again afterwards */
export async function loadTexts(chosen) {
  const response = await fetch(`/page/texts/${chosen}.json`).catch(() => null);
  if (!response?.ok) throw new Problem(response?.status ?? 0, { title: response?.statusText ?? "no answer" });
  texts = await response.json();
  language = chosen;
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : chosen;
}

/** @param {Language} chosen */
export function rememberLanguage(chosen) {
  localStorage.setItem(CHOSEN, chosen);
}

export function currentLanguage() {
  return language;
}

/**
 * Return a text with its values put in: `{time}` of "not live since {time}" by {time: "12:03"}. A text of several
 * forms ({"one": …, "other": …}) is chosen by `n`.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 * @param {string} [otherwise] what to say where there is no such text, as of a code of a newer service
 */
export function t(key, values = {}, otherwise = key) {
  const found = texts[key];
  const forms = typeof found === "object" ? found : { other: found ?? otherwise };
  const form = new Intl.PluralRules(LOCALES[language]).select(Number(values.n ?? 0));
  const text = forms[form] ?? forms.other;
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    return value === undefined ? whole : typeof value === "number" ? formatNumber(value) : value;
  });
}

/** @param {string | Date | null | undefined} moment */
export function formatTime(moment) {
  return moment ? new Intl.DateTimeFormat(LOCALES[language], { timeStyle: "medium" }).format(new Date(moment)) : "–";
}

/** @param {string | Date | null | undefined} moment */
export function formatDate(moment) {
  const style = /** @type {const} */ ({ dateStyle: "medium", timeStyle: "medium" });
  return moment ? new Intl.DateTimeFormat(LOCALES[language], style).format(new Date(moment)) : "–";
}

/**
 * @param {number | null | undefined} value
 * @param {Intl.NumberFormatOptions} [options] such as {style: "percent", maximumFractionDigits: 1}
 */
export function formatNumber(value, options = { maximumFractionDigits: 3 }) {
  return value === null || value === undefined ? "–" : new Intl.NumberFormat(LOCALES[language], options).format(value);
}

/**
 * @param {string | Date} moment
 * @param {Intl.DateTimeFormatOptions} options such as {weekday: "short", timeZone: "Asia/Shanghai"}
 */
export function formatMoment(moment, options) {
  return new Intl.DateTimeFormat(LOCALES[language], options).format(new Date(moment));
}
