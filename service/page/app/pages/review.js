/** Review: the queue of images to decide, how people and model agree, and the plan of what people look at. */
import { api, withQuery } from "../lib/api.js";
import { takeFocus } from "../lib/focus.js";
import { html, useEffect, useState } from "../lib/html.js";
import { Link, navigate } from "../lib/router.js";
import { hasScope, signIn, useSession } from "../lib/session.js";
import { t } from "../lib/texts.js";
import { ProblemNote } from "../parts/problem.js";
import { ReviewDesk } from "../parts/review_desk.js";
import { ReviewNumbers } from "../parts/review_numbers.js";
import { ReviewPlan } from "../parts/review_plan.js";

/** @typedef {{product?: string, station?: string, tab?: string}} Query */

/** @param {{query: Query}} props */
export default function ReviewPage({ query }) {
  const session = useSession();
  const choices = useChoices();
  const mayReview = hasScope("review");
  const tab = query.tab === "numbers" || (query.tab === "plan" && hasScope("admin")) ? query.tab : "decide";
  const planned = query.product ?? choices.products[0];
  return html`<main class="review-page">
    <div class="review-head">
      <h1>${t("review.title")}</h1>
      <${Tabs} query=${query} shown=${tab} />
      <${Filter} query=${query} choices=${choices} hasStation=${tab === "decide"} />
    </div>
    ${!mayReview && html`<p class="note">${t("review.no_scope")}</p>`}
    ${mayReview && tab === "decide" && html`<${Desk} person=${session?.person ?? null} query=${query} />`}
    ${mayReview && tab === "numbers" && html`<${ReviewNumbers} product=${query.product} />`}
    ${tab === "plan" && html`<${ReviewPlan} key=${planned} product=${planned} />`}
  </main>`;
}

/** The desk, once it is known who decides. @param {{person: string | null, query: Query}} props */
function Desk({ person, query }) {
  if (!person) return html`<${WhoDecides} />`;
  const filter = { product: query.product, station: query.station };
  return html`<${ReviewDesk} key=${JSON.stringify(filter)} filter=${filter} person=${person} />`;
}

/** Asks for the name in the page itself: a dialog would stand between a visitor and the other pages. */
function WhoDecides() {
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  /** @param {SubmitEvent} event */
  const accept = (event) => {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    signIn({ key: null, person: String(form.get("person")).trim() }).catch(setProblem);
  };
  return html`<form class="card review-who" onSubmit=${accept}>
    <h2>${t("person.title")}</h2>
    <p>${t("person.text")}</p>
    <label class="field">${t("person.name")}<input ref=${takeFocus} name="person" required maxlength="100" pattern=".*\\S.*" autocomplete="off" /></label>
    ${Boolean(problem) && html`<${ProblemNote} error=${problem} />`}
    <div class="actions"><button type="submit" class="primary">${t("person.accept")}</button></div>
  </form>`;
}

/** @param {{query: Query, shown: string}} props */
function Tabs({ query, shown }) {
  const titles = { decide: t("review.tab_decide"), numbers: t("review.tab_numbers"), plan: t("review.tab_plan") };
  const tabs = Object.entries(titles).filter(([name]) => name !== "plan" || hasScope("admin"));
  return html`<nav class="review-tabs" aria-label=${t("review.title")}>
    ${tabs.map(([name, title]) => {
      const href = withQuery("/review", { ...query, tab: name === "decide" ? null : name });
      return html`<${Link} key=${name} href=${href} aria-current=${name === shown ? "page" : undefined}>${title}<//>`;
    })}
  </nav>`;
}

/** @param {{query: Query, choices: Choices, hasStation: boolean}} props */
function Filter({ query, choices, hasStation }) {
  /** @param {"product" | "station"} name */
  const choose = (name) => (/** @type {Event} */ event) => {
    const value = /** @type {HTMLSelectElement} */ (event.currentTarget).value;
    navigate(withQuery("/review", { ...query, [name]: value }), { replace: true });
  };
  return html`<form class="review-filter">
    <label>${t("review.product")}
      <${Choice} value=${query.product} all=${choices.products} onChange=${choose("product")} />
    </label>
    ${
      hasStation &&
      html`<label>${t("review.station")}
      <${Choice} value=${query.station} all=${choices.stations} onChange=${choose("station")} />
    </label>`
    }
  </form>`;
}

/** @param {{value: string | undefined, all: string[], onChange: (event: Event) => void}} props */
function Choice({ value, all, onChange }) {
  const shown = value && !all.includes(value) ? [value, ...all] : all;
  return html`<select value=${value ?? ""} onChange=${onChange}>
    <option value="">${t("review.all")}</option>
    ${shown.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}
  </select>`;
}

/** @typedef {{products: string[], stations: string[]}} Choices */

/** Return what the queue can be narrowed to; nothing where the service does not say. */
function useChoices() {
  const [choices, setChoices] = useState(/** @type {Choices} */ ({ products: [], stations: [] }));
  useEffect(() => {
    const products = api.get("/v1/products").then((found) => names(found.products, "product"));
    const stations = api.get("/v1/stations").then((found) => names(found.stations, "station"));
    Promise.all([products, stations]).then(
      ([ofProducts, ofStations]) => setChoices({ products: ofProducts, stations: ofStations }),
      () => {},
    );
  }, []);
  return choices;
}

/** @param {Record<string, string>[]} list @param {string} name */
function names(list, name) {
  return list.map((one) => one[name]);
}
