/**
 * This tab of the browser as the desk at which a person reviews.
 *
 * The service gives a person again what they have at their desk, so a page that is loaded anew holds no image in vain.
 * The tab's name is in the browser's store only while nobody looks at the tab: a tab that is duplicated copies the
 * store, and must be a desk of its own. A name that is found there at the start may still be another tab's: ask them.
 */
import { api } from "./api.js";

const STORED = "glad.tab";
/** How long another tab has to say that a name is its own: about what the texts of the page take meanwhile. */
const ANSWER_MS = 150;

const found = sessionStorage.getItem(STORED);
/** Letters and digits; the same after a reload. It may change until `deskIsKnown`. */
export let desk = found ?? newName();

let tabs = listen();
/** Fulfilled once no other tab has the name: one that is duplicated while nobody looks at it copies it too. */
export const deskIsKnown = found ? askTabs() : Promise.resolve();

sessionStorage.removeItem(STORED);
addEventListener("pagehide", () => {
  leave();
  tabs.close();
});
addEventListener("pageshow", ({ persisted }) => {
  if (persisted) tabs = listen();
  keepOrLeave();
});
document.addEventListener("visibilitychange", keepOrLeave); // a phone may end a hidden page without a further event

function newName() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Answer tabs that ask for this one's name. */
function listen() {
  const channel = new BroadcastChannel(STORED);
  channel.addEventListener("message", ({ data }) => {
    if (data.asked === desk) channel.postMessage({ taken: desk });
  });
  return channel;
}

/** Take another name if a tab says in time that it has this one. */
function askTabs() {
  const asking = new AbortController();
  const { signal } = asking;
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve(undefined));
    setTimeout(() => asking.abort(), ANSWER_MS);
    const isTaken = (/** @type {MessageEvent} */ { data }) => {
      if (data.taken !== desk) return;
      desk = newName();
      asking.abort();
    };
    tabs.addEventListener("message", isTaken, { signal });
    tabs.postMessage({ asked: desk });
  });
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
