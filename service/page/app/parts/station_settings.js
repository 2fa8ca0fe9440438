/** What a station is set to, who changed it, and the way back. */
import { api, Problem, stationPath } from "../lib/api.js";
import { html, useEffect, useState } from "../lib/html.js";
import { useLoaded } from "../lib/reading.js";
import { askPerson, hasScope } from "../lib/session.js";
import { formatDate, t } from "../lib/texts.js";
import { confirmChange, Dialog, showDialog } from "./dialog.js";
import { ProblemNote } from "./problem.js";

const SHOWN = 8;
/** As long as the service takes: a day. */
const LONGEST_TAKT_MS = 86_400_000;
/** What a change sets; a hold stays as it is. */
const SET = /** @type {const} */ (["product", "lot", "view", "priority", "deadline_ms", "expected_views", "takt_ms"]);

/** @typedef {{product: string, takt_ms: number | null, hold: string | null}} Settings the fields that are shown */
/** @typedef {{at: string, by: string | null, settings: Settings | null}} Change */

/**
 * @param {{station: string, revision: unknown, onChange: () => void}} props `revision`: with another value it is read
 * anew; `onChange`: called after a change from here
 */
export function StationSettings({ station, revision, onChange }) {
  const found = useLoaded(station, () => api.get(stationPath(station)));
  const [failure, setFailure] = useState(/** @type {unknown} */ (null));
  useEffect(found.reload, [revision]);
  /** @param {() => Promise<unknown>} change asks, and sends */
  const make = async (change) => {
    setFailure(null);
    try {
      await change();
    } catch (problem) {
      setFailure(problem);
    }
    found.reload();
    onChange();
  };
  /** @param {Settings} settings */
  const send = async (settings) => {
    if ((await askPerson()) !== null) await api.send("PUT", stationPath(station), onlySet(settings));
  };
  const edit = () =>
    make(async () => {
      const { products } = await api.get("/v1/products");
      const names = products.map((/** @type {{product: string}} */ one) => one.product);
      const chosen = await askForSettings(station, found.data, names);
      if (chosen) await send({ ...found.data, ...chosen });
    });
  /** @param {Settings} settings */
  const restore = (settings) =>
    make(async () => {
      const question = {
        title: t("station.restore_title"),
        text: settingsText(settings),
        action: t("station.restore"),
      };
      if (await confirmChange(question)) await send(settings);
    });
  const remove = () =>
    make(async () => {
      const question = { title: t("station.remove_title", { station }), text: t("station.remove_text") };
      if (!(await confirmChange({ ...question, action: t("station.remove"), isDangerous: true }))) return;
      if ((await askPerson()) !== null) await api.send("DELETE", stationPath(station));
    });
  if (!found.data) return isNotSetUp(found.error) ? null : found.error && html`<${ProblemNote} error=${found.error} />`;
  const changes = /** @type {Change[]} */ (found.data.changes);
  const present = JSON.stringify(onlySet(found.data));
  return html`<section class="card" aria-labelledby="station-settings">
    <h2 id="station-settings">${t("station.title")}</h2>
    <p>${settingsText(found.data)}</p>
    ${failure && html`<${ProblemNote} error=${failure} />`}
    ${
      hasScope("admin") &&
      html`<div class="actions">
        <button type="button" onClick=${remove}>${t("station.remove")}</button>
        <button type="button" onClick=${edit}>${t("station.edit")}</button>
      </div>`
    }
    <h3>${t("station.changes")}</h3>
    <ul class="limit-plans">
      ${changes.slice(0, SHOWN).map(
        ({ at, by, settings }) => html`<li key=${at}>
          <div>
            ${settings ? settingsText(settings) : t("station.removed")}
            <div class="hint">${t("limit_samples.changed", { at: formatDate(at), by: by ?? "–" })}</div>
          </div>
          ${
            hasScope("admin") &&
            settings &&
            JSON.stringify(onlySet(settings)) !== present &&
            html`<button type="button" onClick=${() => restore(settings)}>${t("station.restore")}</button>`
          }
        </li>`,
      )}
    </ul>
  </section>`;
}

/** @param {any} settings */
function onlySet(settings) {
  return Object.fromEntries(SET.map((name) => [name, settings[name]]));
}

/** @param {unknown} error */
function isNotSetUp(error) {
  return error instanceof Problem && error.status === 404;
}

/** @param {Settings} settings */
function settingsText({ product, takt_ms, hold }) {
  const takt = takt_ms === null ? t("station.no_takt") : t("station.takt_of", { ms: takt_ms });
  return [product, takt, hold && t("station.on_hold", { reason: hold })].filter(Boolean).join(" · ");
}

/**
 * Return what the person has chosen; null if they did not.
 * @param {string} station
 * @param {Settings} present
 * @param {string[]} products
 * @returns {Promise<{product: string, takt_ms: number | null} | null>}
 */
function askForSettings(station, present, products) {
  return showDialog((answer) => {
    /** @param {SubmitEvent} event */
    const accept = (event) => {
      event.preventDefault();
      const fields = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
      const takt = String(fields.get("takt") ?? "").trim();
      answer({ product: String(fields.get("product")), takt_ms: takt ? Number(takt) : null });
    };
    return html`<${Dialog} title=${t("station.edit_title", { station })} onClose=${() => answer(null)}>
      <form onSubmit=${accept}>
        <label class="field">${t("setup.product")}
          <select name="product" required>
            ${[...new Set([present.product, ...products])].map((one) => html`<option key=${one} value=${one} selected=${one === present.product}>${one}</option>`)}
          </select>
        </label>
        <label class="field">${t("station.takt")}
          <input type="number" name="takt" min="1" max=${LONGEST_TAKT_MS} step="1" defaultValue=${present.takt_ms ?? ""} />
          <small>${t("station.takt_help")}</small>
        </label>
        <div class="actions">
          <button type="button" onClick=${() => answer(null)}>${t("common.cancel")}</button>
          <button type="submit" class="primary">${t("station.save")}</button>
        </div>
      </form>
    <//>`;
  });
}
