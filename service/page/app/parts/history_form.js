/** What the history can be searched by, as a form; sending it changes the address. */
import { api, withQuery } from "../lib/api.js";
import { html, useEffect, useState } from "../lib/html.js";
import { navigate } from "../lib/router.js";
import { t } from "../lib/texts.js";

const VERDICTS = ["pass", "review", "fail"];
const STATES = ["done", "failed", "expired"];
const DISPOSITIONS = ["scrap", "rework", "use_as_is"];
/** Names of the filters, which are those of the interface, in the order of the form. */
export const FILTERS = [
  "serial",
  "lot",
  "station",
  "product",
  "verdict",
  "defect_code",
  "reviewed",
  "disposition",
  "state",
  "since",
  "until",
];
/** Those that are hidden until somebody opens them, or uses one. */
const RARE = ["defect_code", "reviewed", "disposition", "state"];

/**
 * The fields keep what is typed when this is drawn again: a value of the page's own would replace it.
 * @param {{filters: Record<string, string>}} props those in force
 */
export function HistoryForm({ filters }) {
  const known = useKnownNames();
  /** @param {SubmitEvent} event */
  const search = (event) => {
    event.preventDefault();
    const given = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    /** @type {Record<string, string>} */
    const wanted = {};
    for (const name of FILTERS) wanted[name] = String(given.get(name) ?? "").trim();
    navigate(withQuery("/history", { ...wanted, since: toUtc(wanted.since), until: toUtc(wanted.until) }));
  };
  const text = (/** @type {string} */ name, /** @type {string[]} */ offered = []) =>
    html`<label class="field">
      ${t(`history.filter.${name}`)}
      <input id=${`history-${name}`} name=${name} defaultValue=${filters[name] ?? ""} maxlength="128" autocomplete="off"
        spellcheck=${false} list=${offered.length > 0 ? `history-${name}-offered` : undefined} />
      ${offered.length > 0 && html`<datalist id=${`history-${name}-offered`}>${offered.map((one) => html`<option key=${one} value=${one} />`)}</datalist>`}
    </label>`;
  const choice = (/** @type {string} */ name, /** @type {Record<string, string>} */ options) =>
    html`<label class="field">
      ${t(`history.filter.${name}`)}
      <select name=${name}>
        <option value="">${t("history.any")}</option>
        ${Object.entries(options).map(([value, title]) => html`<option key=${value} value=${value} selected=${filters[name] === value}>${title}</option>`)}
      </select>
    </label>`;
  const time = (/** @type {string} */ name) =>
    html`<label class="field">
      ${t(`history.filter.${name}`)}
      <input type="datetime-local" name=${name} defaultValue=${toLocal(filters[name])} step="60" />
    </label>`;

  return html`<form class="history-form card" role="search" onSubmit=${search}>
    <div class="history-fields">
      ${text("serial")} ${text("lot")} ${text("station", known.stations)} ${text("product", known.products)}
      ${choice(
        "verdict",
        named(VERDICTS, (one) => t(`verdict.${one}`)),
      )} ${time("since")} ${time("until")}
    </div>
    <details open=${RARE.some((name) => filters[name])}>
      <summary>${t("history.more_filters")}</summary>
      <div class="history-fields">
        ${text("defect_code")} ${choice(
          "reviewed",
          named(["true", "false"], (one) => t(`history.reviewed.${one}`)),
        )}
        ${choice(
          "disposition",
          named(DISPOSITIONS, (one) => t(`disposition.${one}`)),
        )} ${choice(
          "state",
          named(STATES, (one) => t(`history.state.${one}`)),
        )}
      </div>
    </details>
    <div class="actions">
      ${Object.keys(filters).length > 0 && html`<button type="button" onClick=${() => navigate("/history")}>${t("history.clear")}</button>`}
      <button type="submit" class="primary">${t("history.search")}</button>
    </div>
  </form>`;
}

/**
 * @param {string[]} values
 * @param {(value: string) => string} title
 */
function named(values, title) {
  return Object.fromEntries(values.map((one) => [one, title(one)]));
}

/** Return the names of stations and products that are set, to choose from; what was inspected earlier may have others. */
function useKnownNames() {
  const [names, setNames] = useState({
    stations: /** @type {string[]} */ ([]),
    products: /** @type {string[]} */ ([]),
  });
  useEffect(() => {
    Promise.all([api.get("/v1/stations"), api.get("/v1/products")]).then(
      ([{ stations }, { products }]) =>
        setNames({
          stations: stations.map((/** @type {any} */ one) => one.station),
          products: products.map((/** @type {any} */ one) => one.product),
        }),
      () => {}, // the search says what is wrong
    );
  }, []);
  return names;
}

/** @param {string} local of a field: 2026-11-23T06:00 by the clock of this machine */
function toUtc(local) {
  const moment = new Date(local);
  return Number.isNaN(moment.getTime()) ? "" : moment.toISOString();
}

/** @param {string | undefined} utc */
function toLocal(utc) {
  const moment = new Date(utc ?? "");
  if (Number.isNaN(moment.getTime())) return "";
  return new Date(moment.getTime() - moment.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
