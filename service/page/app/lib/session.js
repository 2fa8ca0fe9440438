/** Who uses the page, and what they may do. */
import { askForPerson } from "../parts/person_dialog.js";
import { api, setCsrfToken, setSessionRenewal, setUnauthorizedListener, whileSessionChanges } from "./api.js";
import { navigate } from "./router.js";
import { createStore, useStore } from "./store.js";

/**
 * @typedef {object} Session
 * @property {boolean} needs_key
 * @property {boolean} signed_in
 * @property {string | null} person
 * @property {string | null} key its name
 * @property {string[]} scopes
 * @property {string | null} expires_at
 * @property {string | null} csrf
 */

/** @type {import("./store.js").Store<Session | null>} */
const session = createStore(/** @type {Session | null} */ (null));

export async function loadSession() {
  keep(await api.get("/v1/session"));
}

/** @param {Session} found */
function keep(found) {
  setCsrfToken(found.csrf);
  session.set(found);
}

/** Return the session; null until it is known. */
export function useSession() {
  return useStore(session);
}

/** @param {"submit" | "read" | "review" | "admin"} scope */
export function hasScope(scope) {
  const scopes = session.get()?.scopes ?? [];
  return scopes.includes(scope) || scopes.includes("admin");
}

/** @param {{key: string | null, person: string}} who */
export function signIn(who) {
  return whileSessionChanges(api.send("POST", "/v1/session", who).then(keep));
}

export async function signOut() {
  await api.send("DELETE", "/v1/session");
  await loadSession();
}

/**
 * Return the name of who decides, after asking for it once; null if they did not say.
 * @returns {Promise<string | null>}
 */
export async function askPerson() {
  const known = session.get()?.person;
  if (known) return known;
  return await askForPerson((person) => signIn({ key: null, person }));
}

setSessionRenewal(loadSession);
setUnauthorizedListener(() => {
  const here = location.pathname + location.search;
  if (!here.startsWith("/sign-in")) navigate(`/sign-in?next=${encodeURIComponent(here)}`, { replace: true });
});
