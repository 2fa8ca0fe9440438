/** What made a result: versions, hashes, seed, and how long each stage took. */
import { html } from "../lib/html.js";
import { Link } from "../lib/router.js";
import { formatDate, formatNumber, t } from "../lib/texts.js";

const STAGES = ["queue", "decode", "encode", "denoise", "score"];

/** @param {{facts: [string, any][]}} props facts that are not known are left out */
export function Facts({ facts }) {
  const known = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return html`<dl class="inspection-facts">${known.map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl>`;
}

/** @param {{inspection: any}} props */
export function InspectionTechnical({ inspection }) {
  const one = inspection;
  const size = one.width && t("inspection.pixels", { width: one.width, height: one.height });
  const original = one.replay_of && html`<${Link} href=${`/inspections/${one.replay_of}`}>${one.replay_of}<//>`;
  return html`<section class="card">
    <h2>${t("inspection.technical")}</h2>
    <${Timings} timings=${one.timings_ms} />
    <${Facts}
      facts=${[
        [t("inspection.id"), html`<code>${one.id}</code>`],
        [t("inspection.version"), one.bundle?.version],
        [t("inspection.bundle_hash"), one.bundle && html`<code>${one.bundle.hash}</code>`],
        [t("inspection.image_hash"), one.image_sha256 && html`<code>${one.image_sha256}</code>`],
        [t("inspection.size"), size],
        [t("inspection.seed"), one.seed],
        [t("inspection.step"), one.denoising_step],
        [t("inspection.evaluations"), one.unet_evaluations],
        [t("inspection.pixel_limit"), one.thresholds && formatNumber(one.thresholds.pixel)],
        [t("inspection.accepted"), formatDate(one.accepted_at)],
        [t("inspection.started"), one.started_at && formatDate(one.started_at)],
        [t("inspection.ended"), one.finished_at && formatDate(one.finished_at)],
        [t("inspection.attempts"), one.attempts],
        [t("inspection.priority"), t(`priority.${one.priority}`)],
        [t("inspection.deadline"), one.deadline_ms && t("inspection.ms", { value: formatNumber(one.deadline_ms) })],
        [t("inspection.audit"), one.audit && formatNumber(one.audit, { style: "percent", maximumFractionDigits: 2 })],
        [t("inspection.overtime"), one.overtime && t("inspection.overtime_yes")],
        [t("inspection.replay_of"), original],
        [t("inspection.replayed_by"), one.replayed_by],
      ]}
    />
  </section>`;
}

/** @param {{timings: any}} props */
function Timings({ timings }) {
  if (!timings) return null;
  const longest = Math.max(...STAGES.map((stage) => timings[stage]), 1);
  const row = (/** @type {string} */ stage) =>
    html`<tr key=${stage}>
      <th scope="row">${t(`stage.${stage}`)}</th>
      <td class="number">${formatNumber(timings[stage], { maximumFractionDigits: 1 })}</td>
      <td class="stage-bar">${stage !== "total" && html`<div style=${{ width: `${(100 * timings[stage]) / longest}%` }}></div>`}</td>
    </tr>`;
  return html`<table class="stages">
    <caption>${t("inspection.stages")}</caption>
    <tbody>${[...STAGES, "total"].map(row)}</tbody>
  </table>`;
}
