/** The history: search by what the line knows of a part; newest first, a page at a time. The query is the address. */
import { api, withQuery } from "../lib/api.js";
import { useDefectTitles } from "../lib/defect_titles.js";
import { takeFocus } from "../lib/focus.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../lib/html.js";
import { useKeys } from "../lib/keys.js";
import { Link, navigate } from "../lib/router.js";
import { t } from "../lib/texts.js";
import { FILTERS, HistoryForm } from "../parts/history_form.js";
import { InspectionRow, productsWithCodes } from "../parts/inspection_row.js";
import { ProblemNote } from "../parts/problem.js";

const PER_PAGE = 50;
/** Calls that one search makes before it asks whether to go on: each looks at some ten thousand inspections. */
const MOST_CALLS = 10;

/**
 * @typedef {{inspections: any[], next: string, more: boolean}} Found
 * @typedef {{found: Found | null, error: unknown, isSearching: boolean}} Search
 */

/** @type {Search} */
const NOTHING = { found: null, error: null, isSearching: true };

/**
 * Return the results of the query, read until a page is full, the history ends, or it takes too long.
 * @param {Record<string, string>} query
 * @param {number} attempt grows to search again
 * @returns {Search}
 */
function useSearch(query, attempt) {
  const [search, setSearch] = useState(NOTHING);
  const key = JSON.stringify(query);
  useEffect(() => {
    const aborter = new AbortController();
    setSearch(NOTHING);
    readPage(query, aborter.signal).then(
      (found) => setSearch({ found, error: null, isSearching: false }),
      (error) => {
        if (!aborter.signal.aborted) setSearch({ found: null, error, isSearching: false });
      },
    );
    return () => aborter.abort();
  }, [key, attempt]);
  return search;
}

/**
 * @param {Record<string, string>} query
 * @param {AbortSignal} signal
 * @returns {Promise<Found>}
 */
async function readPage(query, signal) {
  /** @type {Found} */
  let page = { inspections: [], next: query.after ?? "", more: true };
  for (let calls = 0; calls < MOST_CALLS && page.more && page.inspections.length < PER_PAGE; calls += 1) {
    const asked = { ...query, order: "newest", after: page.next, limit: PER_PAGE - page.inspections.length };
    const answer = await api.get("/v1/inspections", asked, { signal });
    page = { ...answer, inspections: [...page.inspections, ...answer.inspections] };
  }
  return page;
}

/** @param {Record<string, string>} query of the address: all but what the history does not know */
function knownOf(query) {
  return Object.fromEntries([...FILTERS, "after"].filter((name) => query[name]).map((name) => [name, query[name]]));
}

/**
 * Return the place of the focus after a search: from there the arrows and Tab lead to the results. Who comes back is at
 * the result that they opened.
 * @param {string} key of the search
 * @param {Found | null} found
 */
function useFocus(key, found) {
  const state = useRef(/** @type {HTMLElement | null} */ (null));
  const before = useRef(key);
  useLayoutEffect(() => {
    if (before.current !== key) takeFocus(state.current);
    before.current = key;
  }, [key]);
  useLayoutEffect(() => {
    const { focused = "" } = history.state ?? {};
    const isTyping = document.activeElement?.matches("input, select");
    if (found && !isTyping && focused.startsWith("row-")) document.getElementById(focused)?.focus();
  }, [found]);
  return state;
}

/** @param {{query: Record<string, string>}} props */
export default function HistoryPage({ query }) {
  const asked = knownOf(query);
  const [attempt, setAttempt] = useState(0);
  const { found, error, isSearching } = useSearch(asked, attempt);
  const list = useRef(/** @type {HTMLOListElement | null} */ (null));
  const state = useFocus(JSON.stringify(asked), found);
  const { after, ...filters } = asked;
  const titles = useDefectTitles(productsWithCodes(found?.inspections ?? []));
  const older = found?.more ? withQuery("/history", { ...filters, after: found.next }) : null;

  /** @param {number} step */
  const move = (step) => {
    const links = [...(list.current?.querySelectorAll("a") ?? [])];
    const here = links.indexOf(/** @type {HTMLAnchorElement} */ (document.activeElement));
    links[Math.min(Math.max(here + step, 0), links.length - 1)]?.focus();
  };
  useKeys({
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    j: () => move(1),
    k: () => move(-1),
    n: () => older && navigate(older),
    p: () => after && history.back(),
    "/": () => document.getElementById("history-serial")?.focus(),
  });

  return html`<main class="history">
    <h1>${t("history.title")}</h1>
    <${HistoryForm} key=${JSON.stringify(filters)} filters=${filters} />
    ${error && html`<${ProblemNote} error=${error} onRetry=${() => setAttempt(attempt + 1)} />`}
    <div ref=${state} aria-live="polite" tabindex="-1" class="hint history-state">
      ${isSearching && t("history.searching")} ${found && countText(found, Boolean(after))}
    </div>
    <ol class="history-list" ref=${list} aria-busy=${isSearching}>
      ${found?.inspections.map((one) => html`<li key=${one.id}><${InspectionRow} inspection=${one} titles=${titles} /></li>`)}
    </ol>
    <nav class="pages" aria-label=${t("history.pages")}>
      ${after && html`<${Link} class="button" href=${withQuery("/history", filters)}>${t("history.newest")}<//>`}
      ${after && html`<button type="button" onClick=${() => history.back()}>${t("history.newer")} <kbd>P</kbd></button>`}
      ${older && html`<${Link} class="button" href=${older}>${olderText(found)} <kbd>N</kbd><//>`}
    </nav>
    <p class="hint history-keys">${t("history.keys")}</p>
  </main>`;
}

/**
 * @param {Found} found
 * @param {boolean} isLater whether a page lies before this one
 */
function countText({ inspections, more }, isLater) {
  if (inspections.length > 0) return t("history.shown", { n: inspections.length });
  if (more) return t("history.none_yet");
  return isLater ? t("history.no_older") : t("history.none");
}

/** @param {Found | null} found */
function olderText(found) {
  return found && found.inspections.length < PER_PAGE ? t("history.search_on") : t("history.older");
}
