/** The way to set up a station from the page: images may name a station that nobody has set up yet. */
import { api, stationPath } from "../lib/api.js";
import { html, useState } from "../lib/html.js";
import { askPerson, hasScope } from "../lib/session.js";
import { t } from "../lib/texts.js";
import { Dialog, showDialog } from "./dialog.js";
import { ProblemNote } from "./problem.js";

/**
 * Return the product that the person has chosen; null if they did not.
 * @param {string} station
 * @param {string[]} products
 * @returns {Promise<string | null>}
 */
function askForProduct(station, products) {
  return showDialog((answer) => {
    /** @param {SubmitEvent} event */
    const accept = (event) => {
      event.preventDefault();
      const fields = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
      answer(String(fields.get("product")));
    };
    return html`<${Dialog} title=${t("setup.title", { station })} onClose=${() => answer(null)}>
      <form onSubmit=${accept}>
        <p class="dialog-text">${t("setup.text")}</p>
        <label class="field">${t("setup.product")}
          <select name="product" required>
            ${products.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}
          </select>
        </label>
        <div class="actions">
          <button type="button" onClick=${() => answer(null)}>${t("common.cancel")}</button>
          <button type="submit" class="primary" autofocus>${t("setup.set_up")}</button>
        </div>
      </form>
    <//>`;
  });
}

/** @param {{station: string, onDone: () => void}} props `onDone`: called when the station is set up */
export function StationSetup({ station, onDone }) {
  const [failure, setFailure] = useState(/** @type {unknown} */ (null));
  if (!hasScope("admin")) return html`<p class="hint">${t("setup.needs_admin")}</p>`;
  const setUp = async () => {
    setFailure(null);
    try {
      const { products } = await api.get("/v1/products");
      const names = products.map((/** @type {{product: string}} */ one) => one.product);
      const product = await askForProduct(station, names);
      if (product === null || (await askPerson()) === null) return;
      await api.send("PUT", stationPath(station), { product });
      onDone();
    } catch (problem) {
      setFailure(problem);
    }
  };
  return html`${failure && html`<${ProblemNote} error=${failure} />`}
    <button type="button" onClick=${setUp}>${t("setup.set_up")}</button>`;
}
