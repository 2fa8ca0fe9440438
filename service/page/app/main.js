/** The page's start: texts, session, then the component of the address. */
import { deskIsKnown } from "./lib/desk.js"; // from the beginning: a tab may be duplicated before anybody reviews in it
import { focusHeading, keepFocus } from "./lib/focus.js";
import { html, render, useEffect, useErrorBoundary, useRef, useState } from "./lib/html.js";
import { Link, matchPath, navigate, useLocation } from "./lib/router.js";
import { loadSession, signOut, useSession } from "./lib/session.js";
import { createStore, useStore } from "./lib/store.js";
import { currentLanguage, LANGUAGES, loadTexts, preferredLanguage, rememberLanguage, t } from "./lib/texts.js";
import { applyTheme, nextTheme, useTheme } from "./lib/theme.js";
import { ProblemNote } from "./parts/problem.js";

/** Pattern of an address -> the module whose default export shows it. The service knows the same addresses. */
const PAGES = /** @type {Record<string, () => Promise<{default: any}>>} */ ({
  "/": () => import("./pages/line.js"),
  "/line": () => import("./pages/line.js"),
  "/line/:station": () => import("./pages/line.js"),
  "/review": () => import("./pages/review.js"),
  "/history": () => import("./pages/history.js"),
  "/inspections/:id": () => import("./pages/inspection.js"),
  "/products": () => import("./pages/products.js"),
  "/products/:product": () => import("./pages/product.js"),
  "/stations/:station/limit-samples": () => import("./pages/limit_samples.js"),
  "/shift": () => import("./pages/shift.js"),
  "/sign-in": () => import("./pages/sign_in.js"),
});
const SECTIONS = ["line", "review", "history", "products", "shift"];
/** Grows with each change of language, so that all is drawn again. */
const drawn = createStore(0);

/** @param {string} path */
function find(path) {
  for (const [pattern, load] of Object.entries(PAGES)) {
    const params = matchPath(pattern, path);
    if (params) return { load, params };
  }
  return null;
}

function Page() {
  const { path, query } = useLocation();
  const found = find(path);
  const [shown, setShown] = useState(/** @type {{load: unknown, component: any} | null} */ (null));
  const [failure, resetFailure] = useErrorBoundary();
  const [loadError, setLoadError] = useState(/** @type {unknown} */ (null));
  const load = found?.load;
  useEffect(() => {
    resetFailure();
    setLoadError(null);
    load?.().then((module) => setShown({ load, component: module.default }), setLoadError);
  }, [load]);
  if (!found) return html`<main><h1>${t("common.no_page")}</h1><p><${Link} href="/">${t("nav.line")}<//></p></main>`;
  const error = failure ?? loadError;
  if (error) return html`<main><${ProblemNote} error=${error} onRetry=${() => location.reload()} /></main>`;
  if (!shown || shown.load !== load) return html`<main aria-busy="true"></main>`;
  return html`<${shown.component} key=${path} params=${found.params} query=${query} />`;
}

/** Pages that belong to a section without lying below its address. */
const BELONGS = /** @type {Record<string, string>} */ ({ "/inspections/": "history", "/stations/": "line" });

/** @param {string} path */
function sectionOf(path) {
  const other = Object.entries(BELONGS).find(([start]) => path.startsWith(start));
  return other?.[1] ?? (path.split("/")[1] || "line");
}

function Header() {
  const { path } = useLocation();
  const [isOpen, setOpen] = useState(false);
  const pages = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    const section = sectionOf(path);
    document.title = SECTIONS.includes(section) ? `${t(`nav.${section}`)} – GLAD Inspect` : "GLAD Inspect";
    pages.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [path]);
  const session = useSession();
  const theme = useTheme();
  const [failure, setFailure] = useState(/** @type {unknown} */ (null));
  /** @param {Promise<unknown>} change */
  const showFailure = (change) => change.then(() => setFailure(null), setFailure);
  /** @param {Event} event */
  const changeLanguage = (event) => {
    const select = /** @type {HTMLSelectElement} */ (event.currentTarget);
    const chosen = /** @type {import("./lib/texts.js").Language} */ (select.value);
    const change = loadTexts(chosen).then(() => {
      rememberLanguage(chosen);
      drawn.set(drawn.get() + 1);
    });
    change.catch(() => {
      select.value = currentLanguage();
    });
    showFailure(change);
  };
  return html`<header class="top">
    <button type="button" class="skip" onClick=${focusHeading}>${t("nav.skip")}</button>
    <nav ref=${pages} aria-label=${t("nav.label")}>
      ${SECTIONS.map((name) => {
        const isHere = name === sectionOf(path);
        return html`<${Link} key=${name} href=${`/${name}`} aria-current=${isHere ? "page" : undefined}>${t(`nav.${name}`)}<//>`;
      })}
    </nav>
    <button type="button" class="top-menu" aria-expanded=${isOpen} aria-controls="top-tools" onClick=${() => setOpen(!isOpen)}>
      ${t("nav.menu")}
    </button>
    <div class=${isOpen ? "tools is-open" : "tools"} id="top-tools">
      ${session?.person && html`<${Link} class="who" href=${signInPath(path)}>${session.person}<//>`}
      ${session?.signed_in && html`<button type="button" onClick=${() => showFailure(signOut())}>${t("nav.sign_out")}</button>`}
      ${session && !session.signed_in && html`<${Link} class="button" href=${signInPath(path)}>${t("nav.sign_in")}<//>`}
      <button type="button" onClick=${nextTheme}>${t("nav.theme", { theme: t(`theme.${theme}`) })}</button>
      <select id="language" aria-label=${t("nav.language")} value=${currentLanguage()} onChange=${changeLanguage}>
        ${Object.entries(LANGUAGES).map(([code, name]) => html`<option key=${code} value=${code}>${name}</option>`)}
      </select>
    </div>
    ${Boolean(failure) && html`<div class="top-problem"><${ProblemNote} error=${failure} /></div>`}
  </header>`;
}

/** Return the address of the sign-in that leads back here. @param {string} path */
function signInPath(path) {
  return path === "/sign-in" ? path + location.search : `/sign-in?back=${encodeURIComponent(path + location.search)}`;
}

function App() {
  const key = useStore(drawn);
  return html`<${Header} key=${`header-${key}`} /><${Page} key=${`page-${key}`} />`;
}

/** Whether decisions of people wait here for the service: they are sent whichever page is opened first. */
function hasStoredDecisions() {
  return Object.keys(localStorage).some((name) => name.startsWith("glad.decisions."));
}

async function start() {
  applyTheme();
  const session = loadSession().then(
    () => null,
    (error) => error,
  ); // asked for beside the texts: the first paint waits for both
  await Promise.all([loadTexts(preferredLanguage()), deskIsKnown]);
  const root = /** @type {HTMLElement} */ (document.getElementById("app"));
  const error = await session;
  if (error) {
    render(html`<main><${ProblemNote} error=${error} onRetry=${() => location.reload()} /></main>`, root);
    return;
  }
  if (hasStoredDecisions()) import("./lib/decisions.js").then(({ decisions }) => decisions.start());
  if (location.pathname === "/") navigate("/line", { replace: true });
  keepFocus();
  render(html`<${App} />`, root);
}

start();
