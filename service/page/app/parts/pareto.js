/** A Pareto chart: what rejects most stands first; a line shows how much of all rejects lies up to each bar. */
import { html } from "../lib/html.js";
import { formatNumber, t } from "../lib/texts.js";

const MOST_BARS = 8;
const PERCENT = /** @type {const} */ ({ style: "percent", maximumFractionDigits: 0 });

/** @typedef {{name: string, count: number, code?: string | null}} Bar `code`: of a name that has one in files */

/** @param {{title: string, bars: Bar[]}} props in any order */
export function Pareto({ title, bars }) {
  const rows = paretoRows(bars);
  return html`<section class="card pareto">
    <h2>${title}</h2>
    ${rows.length === 0 ? html`<p class="hint">${t("pareto.none")}</p>` : html`<${Chart} title=${title} rows=${rows} />`}
  </section>`;
}

/**
 * Return the bars, the largest first and the smallest of many put together, each with the share of all up to it.
 * @param {Bar[]} bars
 */
export function paretoRows(bars) {
  const sorted = bars.filter((one) => one.count > 0).sort((a, b) => b.count - a.count);
  const rest = sorted.slice(MOST_BARS).reduce((sum, one) => sum + one.count, 0);
  const shown = [...sorted.slice(0, MOST_BARS), ...(rest > 0 ? [{ name: t("pareto.others"), count: rest }] : [])];
  const all = shown.reduce((sum, one) => sum + one.count, 0);
  let sum = 0;
  return shown.map((one) => {
    sum += one.count;
    return { ...one, share: one.count / all, upTo: sum / all };
  });
}

/** @param {{title: string, rows: (Bar & {share: number, upTo: number})[]}} props */
function Chart({ title, rows }) {
  const points = rows.map((one, place) => `${100 * one.upTo},${10 * place + 5}`).join(" ");
  return html`<div class="pareto-chart">
    <table>
      <caption class="visually-hidden">${title}</caption>
      <thead>
        <tr>
          <th scope="col">${t("pareto.name")}</th>
          <th scope="col" class="number">${t("pareto.count")}</th>
          <th scope="col" class="pareto-bars" aria-hidden="true"></th>
          <th scope="col" class="number">${t("pareto.up_to")}</th>
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (one, place) =>
            html`<tr key=${one.code ?? one.name}>
              <th scope="row" title=${one.code ? `${one.name} (${one.code})` : one.name}>${one.name}</th>
              <td class="number">${formatNumber(one.count)}</td>
              ${place === 0 && html`<td class="pareto-bars" rowspan=${rows.length} aria-hidden="true"><${Bars} rows=${rows} points=${points} /></td>`}
              <td class="number">${formatNumber(one.upTo, PERCENT)}</td>
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** @param {{rows: {share: number, upTo: number}[], points: string}} props */
function Bars({ rows, points }) {
  return html`<svg viewBox=${`0 0 100 ${10 * rows.length}`} preserveAspectRatio="none" class="pareto-svg" style=${{ "--rows": rows.length }}>
    ${rows.map((one, place) => html`<rect key=${place} x="0" y=${10 * place + 2} width=${100 * one.share} height="6" />`)}
    <polyline points=${points} fill="none" />
    ${rows.map((one, place) => html`<line key=${place} x1=${100 * one.upTo} x2=${100 * one.upTo} y1=${10 * place + 3} y2=${10 * place + 7} />`)}
  </svg>`;
}
