/**
 * This tab of the browser as the desk at which a person reviews.
 *
 * The service gives a person again what they have at their desk, so a page that is loaded anew holds no image in vain.
 * The tab's name is in the browser's store only while nobody looks at the tab: a tab that is duplicated copies the
 * store, and must be a desk of its own.
 */
import { api } from "./api.js";

const STORED = "glad.tab";

/** Letters and digits; the same after a reload. */
export const desk = sessionStorage.getItem(STORED) ?? newName();

sessionStorage.removeItem(STORED);
addEventListener("pagehide", leave);
addEventListener("pageshow", keepOrLeave);
document.addEventListener("visibilitychange", keepOrLeave); // a phone may end a hidden page without a further event

function newName() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function leave() {
  sessionStorage.setItem(STORED, desk);
}

function keepOrLeave() {
  if (document.hidden) leave();
  else sessionStorage.removeItem(STORED);
}

let last = /** @type {Promise<unknown>} */ (Promise.resolve());

/**
 * Ask for an image to review; null if none waits. One call after the other: of two at once, the second would take over
 * what the first was given, before that is known here.
 * @param {() => Record<string, unknown>} fields of the call, asked for when its turn comes
 * @returns {Promise<any>}
 */
export function askForImage(fields) {
  const asked = last.then(() => api.send("POST", "/v1/reviews/next", { ...fields(), desk }));
  last = asked.catch(() => {});
  return asked;
}
