/** One inspection with everything that is known of it, under an address that can be sent. */
import { api, artifactUrl } from "../lib/api.js";
import { countingReview } from "../lib/counting_review.js";
import { html, useCallback, useEffect, useState } from "../lib/html.js";
import { navigate } from "../lib/router.js";
import { askPerson, hasScope } from "../lib/session.js";
import { formatDate, formatNumber, t } from "../lib/texts.js";
import { confirmChange } from "../parts/dialog.js";
import { InspectionPart } from "../parts/inspection_part.js";
import { InspectionReviews } from "../parts/inspection_reviews.js";
import { Facts, InspectionTechnical } from "../parts/inspection_technical.js";
import { InspectionVerdict } from "../parts/inspection_verdict.js";
import { ProblemNote } from "../parts/problem.js";
import { Viewer } from "../parts/viewer.js";

const AGAIN_MS = 1_500;

/** @param {{params: {id: string}}} props */
export default function InspectionPage({ params }) {
  const [inspection, setInspection] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const load = useCallback(async () => {
    try {
      setInspection(await api.get(`/v1/inspections/${encodeURIComponent(params.id)}`));
      setError(null);
    } catch (problem) {
      setError(problem);
    }
  }, [params.id]);
  useEffect(() => {
    load();
  }, [load]);
  const waits = inspection && !["done", "failed", "expired"].includes(inspection.state);
  useEffect(() => {
    if (!waits) return undefined;
    const timer = setTimeout(load, AGAIN_MS);
    return () => clearTimeout(timer);
  }, [inspection]);

  return html`<main class="inspection" aria-busy=${!inspection && !error}>
    <h1>${t("inspection.title")}</h1>
    ${error && html`<${ProblemNote} error=${error} onRetry=${load} />`}
    ${inspection && html`<${Content} inspection=${inspection} onChange=${setInspection} />`}
  </main>`;
}

/** @param {{inspection: any, onChange: (inspection: any) => void}} props */
function Content({ inspection, onChange }) {
  return html`<div class="inspection-top">
      <${InspectionVerdict} inspection=${inspection} />
      <${Whose} inspection=${inspection} />
    </div>
    <div class="inspection-columns">
      <div>
        <${Pictures} inspection=${inspection} />
        <${Regions} inspection=${inspection} />
      </div>
      <div>
        <${InspectionReviews} inspection=${inspection} onChange=${onChange} />
        ${inspection.serial && html`<${InspectionPart} key=${JSON.stringify(inspection.reviews)} inspection=${inspection} />`}
        <${InspectionTechnical} inspection=${inspection} />
      </div>
    </div>`;
}

/** @param {{inspection: any}} props */
function Whose({ inspection }) {
  return html`<section class="card">
    <${Facts}
      facts=${[
        [t("inspection.serial"), inspection.serial],
        [t("inspection.lot"), inspection.lot],
        [t("inspection.station"), inspection.station],
        [t("inspection.product"), inspection.product],
        [t("inspection.view"), inspection.view],
        [t("inspection.captured"), inspection.captured_at && formatDate(inspection.captured_at)],
        [t("inspection.ended"), inspection.finished_at && formatDate(inspection.finished_at)],
        [t("inspection.metadata"), inspection.metadata && JSON.stringify(inspection.metadata)],
      ]}
    />
    <div class="actions">
      <${CopyLink} /> ${["failed", "expired"].includes(inspection.state) && html`<${Replay} inspection=${inspection} />`}
    </div>
  </section>`;
}

function CopyLink() {
  const [state, setState] = useState("copy");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      setState("copied");
    } catch {
      setState("by_hand"); // over plain HTTP a browser gives no clipboard
    }
  };
  return html`<button type="button" onClick=${copy}>${t("inspection.copy")}</button>
    <span class="hint" role="status">
      ${state === "copied" && t("inspection.copied")}
      ${state === "by_hand" && html`${t("inspection.copy_by_hand")} <span class="address">${location.href}</span>`}
    </span>`;
}

/** @param {{inspection: any}} props */
function Replay({ inspection }) {
  const [error, setError] = useState(/** @type {unknown} */ (null));
  if (!hasScope("admin")) return html`<p class="hint">${t("inspection.replay_needs_admin")}</p>`;
  const replay = async () => {
    const question = {
      title: t("inspection.replay_title"),
      text: t("inspection.replay_text"),
      action: t("inspection.replay"),
    };
    if (!(await confirmChange(question)) || !(await askPerson())) return;
    try {
      const made = await api.send("POST", `/v1/inspections/${inspection.id}/replay`);
      navigate(`/inspections/${made.id}`);
    } catch (problem) {
      setError(problem);
    }
  };
  return html`<button type="button" class="primary" onClick=${replay}>${t("inspection.replay")}</button>
    ${error && html`<${ProblemNote} error=${error} />`}`;
}

/** @param {{inspection: any}} props */
function Pictures({ inspection }) {
  const drawn = countingReview(inspection.reviews)?.regions ?? [];
  return html`<section class="card">
    <h2>${t("inspection.pictures")}</h2>
    <div class="inspection-picture"><${Viewer} inspection=${inspection} drawn=${drawn} /></div>
    ${drawn.length > 0 && html`<p class="hint">${t("inspection.drawn", { n: drawn.length })}</p>`}
    <h3>${t("inspection.files")}</h3>
    <ul class="inspection-files">
      ${Object.keys(inspection.artifacts).map((one) => html`<li key=${one}><a href=${artifactUrl(inspection.id, one)} target="_blank" rel="noreferrer">${t(`artifact.${one}`)}</a> <span class="hint">${one}</span></li>`)}
    </ul>
  </section>`;
}

const MOST_REGIONS = 8;
const TWO_DIGITS = { minimumFractionDigits: 2, maximumFractionDigits: 2 };

/** @param {{inspection: any}} props */
function Regions({ inspection }) {
  const [showsAll, setShowsAll] = useState(false);
  const { regions } = inspection;
  if (regions.length === 0) return null;
  const shown = showsAll ? regions : regions.slice(0, MOST_REGIONS);
  return html`<section class="card">
    <h2>${t("inspection.regions", { n: regions.length })}</h2>
    <table>
      <thead>
        <tr>
          <th class="number">${t("inspection.region_left")}</th>
          <th class="number">${t("inspection.region_top")}</th>
          <th class="number">${t("inspection.region_size")}</th>
          <th class="number">${t("inspection.region_area")}</th>
          <th class="number">${t("inspection.region_peak")}</th>
        </tr>
      </thead>
      <tbody>
        ${shown.map(
          (/** @type {any} */ { box: [x, y, width, height], area_px, peak }, /** @type {number} */ place) =>
            html`<tr key=${place}>
              <td class="number">${x}</td>
              <td class="number">${y}</td>
              <td class="number">${width} × ${height}</td>
              <td class="number">${formatNumber(area_px)}</td>
              <td class="number">${formatNumber(peak, TWO_DIGITS)}</td>
            </tr>`,
        )}
      </tbody>
    </table>
    ${shown.length < regions.length && html`<button type="button" onClick=${() => setShowsAll(true)}>${t("inspection.all_regions")}</button>`}
    <p class="hint">${t("inspection.regions_hint", { width: inspection.width, height: inspection.height })}</p>
  </section>`;
}
