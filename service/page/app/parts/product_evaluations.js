/** What was measured of a version on labelled images, beside the simple method; removing it, and putting it back. */
import { api, withQuery } from "../lib/api.js";
import { html, useState } from "../lib/html.js";
import { askPerson, hasScope } from "../lib/session.js";
import { formatMoment, formatNumber, t } from "../lib/texts.js";
import { confirmChange } from "./dialog.js";
import { productPath, refusalText } from "./product_data.js";

/** @typedef {{value: number, low: number, high: number}} Estimate with its 95 % interval */
/** @typedef {Record<string, Estimate | null | undefined>} Figures */
/** @typedef {{id: string, bundle: string, data: {name: string, good: number, defect: number}, figures: Figures, yardstick: Figures | null, minus_yardstick: Figures | null, measured: {at: string, machine: string, glad: string, command: string}, by: string, at: string, note: string}} Evaluation */
/** @typedef {"better" | "worse" | "not_better"} Comparison */

/** Figures of an evaluation, in the order of the page: the key of their text -> their name in the interface. */
export const FIGURES = /** @type {Record<string, string>} */ ({
  ranking: "image_auroc",
  found: "found",
  rejected: "false_rejects",
  place: "pro",
  pixels: "pixel_auroc",
});

/** Ways to the figures in what a bundle states of itself; the first that is there counts. */
const STATED = /** @type {Record<string, string[][]>} */ ({
  image_auroc: [["image", "auroc"]],
  pixel_auroc: [["pixel", "auroc"]],
  pro: [["pixel", "pro"]],
  found: [["found_at_its_threshold", "found"]],
  false_rejects: [["found_at_its_threshold", "false_rejects"], ["false_reject_rate"]],
});

/** @param {{product: string, version: any, onChanged: () => void}} props */
export function Evaluations({ product, version, onChanged }) {
  const [removed, setRemoved] = useState(/** @type {Evaluation | null} */ (null));
  const [refused, setRefused] = useState(/** @type {unknown} */ (null));
  const path = productPath(product, `/versions/${encodeURIComponent(version.version)}/evaluations`);
  /** @param {() => Promise<void>} change */
  const make = async (change) => {
    setRefused(null);
    try {
      await change();
      onChanged();
    } catch (error) {
      setRefused(error);
    }
  };
  /** @param {Evaluation} one */
  const remove = (one) =>
    make(async () => {
      const action = t("product.evaluation_remove");
      const text = t("product.evaluation_remove_text", { name: one.data.name, version: version.version });
      if (!(await confirmChange({ title: action, text, action }))) return;
      const by = await askPerson();
      if (by === null) return;
      await api.send("DELETE", withQuery(`${path}/${one.id}`, { by }));
      setRemoved(one);
    });
  /** @param {Evaluation} one */
  const putBack = (one) =>
    make(async () => {
      const by = await askPerson();
      if (by === null) return;
      const { bundle, data, figures, yardstick, minus_yardstick, measured } = one;
      const note = one.note || null;
      await api.send("POST", path, { bundle, data, figures, yardstick, minus_yardstick, measured, by, note });
      setRemoved(null);
    });
  const evaluations = /** @type {Evaluation[]} */ (version.evaluations ?? []);
  const stated = statedFigures(version.quality);
  return html`
    ${refused && html`<p class="note note-problem" role="alert">${refusalText(refused)}</p>`}
    ${
      removed &&
      html`<p class="note" role="status">
        ${t("product.evaluation_removed", { name: removed.data.name })}${" "}
        <button type="button" onClick=${() => putBack(removed)}>${t("product.undo")}</button>
      </p>`
    }
    ${evaluations.map((one) => html`<${Measured} key=${one.id} evaluation=${one} onRemove=${() => remove(one)} />`)}
    ${evaluations.length === 0 && stated && html`<${FigureTable} figures=${stated} yardstick=${statedFigures(version.quality.yardstick)} differences=${null} />`}
    ${evaluations.length === 0 && !stated && html`<p>${t("product.not_measured")} <code>glad evaluate ${product}/${version.version} --data DIR --record</code></p>`}
  `;
}

/** An evaluation on one data set. @param {{evaluation: Evaluation, onRemove: () => void}} props */
function Measured({ evaluation, onRemove }) {
  const { data, measured } = evaluation;
  return html`<section class="evaluation">
    <h4>${data.name}</h4>
    <p class="hint">
      ${t("product.evaluated_on", { good: formatNumber(data.good), defect: formatNumber(data.defect), at: dayText(measured.at) })}
      ${evaluation.note && ` · ${evaluation.note}`}
    </p>
    <${FigureTable} figures=${evaluation.figures} yardstick=${evaluation.yardstick} differences=${evaluation.minus_yardstick} />
    <details>
      <summary>${t("product.measured_how")}</summary>
      <p>${t("product.measured_by", { machine: measured.machine || "–", glad: measured.glad || "–", by: evaluation.by, at: dayText(evaluation.at) })}</p>
      ${measured.command && html`<p><code>${measured.command}</code></p>`}
      ${hasScope("admin") && html`<button type="button" onClick=${onRemove}>${t("product.evaluation_remove")}</button>`}
    </details>
  </section>`;
}

/** @param {{figures: Figures, yardstick: Figures | null, differences: Figures | null}} props */
function FigureTable({ figures, yardstick, differences }) {
  const rows = Object.entries(FIGURES)
    .map(([text, name]) => ({ text, own: figures[name], other: yardstick?.[name], difference: differences?.[name] }))
    .filter((row) => row.own)
    .map((row) => ({ ...row, comparison: compared(row) }));
  const isCompared = rows.some((row) => row.comparison);
  const isBetter = rows.some((row) => row.comparison === "better");
  return html`<table>
      <thead>
        <tr>
          <th scope="col">${t("product.measured")}</th>
          <th scope="col" class="number">${t("product.this_version")}</th>
          ${yardstick && html`<th scope="col" class="number">${t("product.yardstick")}</th>`}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          ({ text, own, other, comparison }) => html`<tr key=${text}>
            <th scope="row">${t(`product.figure_${text}`)}<span class="hint figure-hint">${t(`product.figure_${text}_text`)}</span></th>
            <td class="number">
              ${estimateText(own)}
              ${comparison && html`<span class="figure-comparison" data-comparison=${comparison}>${t(`product.is_${comparison}`)}</span>`}
            </td>
            ${yardstick && html`<td class="number">${estimateText(other)}</td>`}
          </tr>`,
        )}
      </tbody>
    </table>
    ${isCompared && !isBetter && html`<p><strong>${t("product.nothing_better")}</strong></p>`}
    <p class="hint">${t("product.interval_text")}${isCompared && ` ${t("product.comparison_text")}`}</p>`;
}

/**
 * Return whether a figure is shown to differ from the simple method's: by the interval of the paired difference, or
 * where that is not known by intervals that do not overlap.
 * @param {{text: string, own: Estimate | null | undefined, other: Estimate | null | undefined, difference: Estimate | null | undefined}} row
 * @returns {Comparison | null} null: there is nothing to compare with
 */
function compared({ text, own, other, difference }) {
  if (!own || !other) return null;
  const [low, high] = difference ? [difference.low, difference.high] : [own.low - other.high, own.high - other.low];
  const isLower = high < 0;
  if (low <= 0 && !isLower) return "not_better";
  return isLower === (text === "rejected") ? "better" : "worse";
}

/** @param {any} quality what a bundle, or its yardstick there, states of itself @returns {Figures | null} */
function statedFigures(quality) {
  const found = Object.entries(STATED).map(([name, ways]) => {
    const values = ways.map((way) => way.reduce((at, part) => at?.[part], quality));
    return [name, values.find((value) => typeof value?.value === "number")];
  });
  return found.some(([, value]) => value) ? Object.fromEntries(found) : null;
}

/** @param {Estimate | null | undefined} found */
function estimateText(found) {
  if (!found) return "–";
  const [value, low, high] = [found.value, found.low, found.high].map((one) =>
    formatNumber(one, { style: "percent", maximumFractionDigits: 1 }),
  );
  return t("product.estimate", { value, low, high });
}

/** @param {string} moment */
function dayText(moment) {
  return formatMoment(moment, { dateStyle: "medium" });
}
