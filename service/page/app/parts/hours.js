/** Hour by hour: how many parts, and how many of them fail or wait for a person. */
import { html } from "../lib/html.js";
import { formatMoment, formatNumber, t } from "../lib/texts.js";

const KINDS = /** @type {const} */ (["fail", "review", "pass"]);

/** @param {{hours: any[], zone: string}} props of a shift, oldest first, those without parts too */
export function Hours({ hours, zone }) {
  const most = Math.max(1, ...hours.map((one) => one.parts));
  const clock = (/** @type {string} */ at) => formatMoment(at, { timeStyle: "short", timeZone: zone });
  return html`<section class="card hours">
    <h2>${t("hours.title")}</h2>
    <div class="hours-chart" aria-hidden="true">
      ${hours.map(
        (one) =>
          html`<div key=${one.at} class="hours-column">
            <div class="hours-bar">
              ${KINDS.map((kind) => html`<div key=${kind} class=${`hours-${kind}`} style=${{ height: `${(100 * one[kind]) / most}%` }}></div>`)}
            </div>
          </div>`,
      )}
    </div>
    <div class="hours-scroll" tabindex="0" role="region" aria-label=${t("hours.title")}>
      <table>
        <thead>
          <tr>
            <th scope="col">${t("hours.from")}</th>
            ${hours.map((one) => html`<th key=${one.at} scope="col">${clock(one.at)}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${["parts", ...KINDS].map(
            (kind) =>
              html`<tr key=${kind} class=${`hours-row-${kind}`}>
                <th scope="row">${t(`hours.${kind}`)}</th>
                ${hours.map((one) => html`<td key=${one.at}>${formatNumber(one[kind])}</td>`)}
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </section>`;
}
