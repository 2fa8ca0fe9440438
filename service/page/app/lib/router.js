/** Addresses of the page: which component shows which path, and links that do not load the page anew. */
import { html } from "./html.js";
import { createStore, useStore } from "./store.js";

const location_ = createStore(location.pathname + location.search);
addEventListener("popstate", () => location_.set(location.pathname + location.search));

/**
 * Go to an address. That of before keeps which element had the focus, for who comes back: `history.state.focused`.
 * @param {string} path
 * @param {{replace?: boolean}} [options]
 */
export function navigate(path, { replace = false } = {}) {
  if (path === location.pathname + location.search) return;
  if (!replace) history.replaceState({ focused: document.activeElement?.id }, "");
  history[replace ? "replaceState" : "pushState"](null, "", path);
  location_.set(path);
  if (!replace) scrollTo(0, 0);
}

/** Return the present path and query; the component is drawn again when they change. */
export function useLocation() {
  const url = new URL(useStore(location_), location.origin);
  return { path: url.pathname, query: Object.fromEntries(url.searchParams) };
}

/**
 * Return the parameters of a path, each with its escapes undone; null if it does not fit the pattern.
 * @param {string} pattern such as /line/:station
 * @param {string} path
 * @returns {Record<string, string> | null}
 */
export function matchPath(pattern, path) {
  const wanted = pattern.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return null;
  /** @type {Record<string, string>} */
  const params = {};
  for (const [place, part] of wanted.entries()) {
    if (!part.startsWith(":")) {
      if (part !== given[place]) return null;
      continue;
    }
    try {
      params[part.slice(1)] = decodeURIComponent(given[place]);
    } catch {
      return null;
    }
  }
  return params;
}

/**
 * A link inside of the page.
 * @param {{href: string, children?: any, [name: string]: any}} props
 */
export function Link({ href, children, ...rest }) {
  /** @param {MouseEvent} event */
  const follow = (event) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    navigate(href);
  };
  return html`<a href=${href} onClick=${follow} ...${rest}>${children}</a>`;
}
