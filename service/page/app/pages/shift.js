/** A shift: how many parts, how many of them good, where the others fail, and how it was the shift before. */
import { api, Problem, withQuery } from "../lib/api.js";
import { defectTitle, useDefectTitles } from "../lib/defect_titles.js";
import { html, useEffect, useState } from "../lib/html.js";
import { Link, navigate } from "../lib/router.js";
import { formatMoment, formatNumber, t } from "../lib/texts.js";
import { Hours } from "../parts/hours.js";
import { Pareto } from "../parts/pareto.js";
import { ProblemNote } from "../parts/problem.js";

const SHIFTS = 21;
const AGAIN_MS = 30_000;
const PERCENT = /** @type {const} */ ({ style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });

/**
 * @typedef {{name: string, since: string, until: string}} Shift
 * @typedef {{zone: string, shifts: Shift[], chosen: Shift, isOther: boolean, now: any, before: any, stations: string[],
 *   products: string[]}} Report `isOther`: the shift that was asked for is not listed
 */

/**
 * @param {Record<string, string>} query
 * @returns {Promise<Report>}
 */
async function readReport(query) {
  const { time_zone, shifts } = await api.get("/v1/shifts", { count: SHIFTS + 1 });
  const place = shifts.slice(0, SHIFTS).findIndex((/** @type {Shift} */ one) => one.since === query.since);
  const [chosen, last] = shifts.slice(Math.max(place, 0));
  const filters = { station: query.station, product: query.product };
  const [now, before, all, products] = await Promise.all([
    api.get("/v1/statistics", { since: chosen.since, until: chosen.until, ...filters }),
    last ? api.get("/v1/statistics", { since: last.since, until: last.until, ...filters }) : null,
    query.station ? api.get("/v1/stations") : null,
    query.product ? api.get("/v1/products") : null,
  ]);
  return {
    zone: time_zone,
    shifts: shifts.slice(0, SHIFTS),
    chosen,
    isOther: Boolean(query.since) && place < 0,
    now,
    before,
    stations: namesOf(now.by_station, all?.stations, "station", query.station),
    products: namesOf(now.by_product, products?.products, "product", query.product),
  };
}

/**
 * Return the names to choose from: those counted, those that are set up, and the chosen one.
 * @param {any[]} counted
 * @param {any[] | undefined} set
 * @param {string} field the name of one that is set up
 * @param {string | undefined} chosen
 * @returns {string[]}
 */
function namesOf(counted, set, field, chosen) {
  const names = [...counted.map((one) => one.name), ...(set ?? []).map((one) => one[field]), chosen];
  return [...new Set(names)].filter(Boolean).sort();
}

/** @param {{query: Record<string, string>}} props */
export default function ShiftPage({ query }) {
  const [report, setReport] = useState(/** @type {Report | null} */ (null));
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const [attempt, setAttempt] = useState(0);
  const key = JSON.stringify(query);
  useEffect(() => {
    let isOver = false;
    let timer = 0;
    const read = async () => {
      try {
        const found = await readReport(query);
        if (isOver) return;
        setReport(found);
        setError(null);
        if (Date.parse(found.chosen.until) > Date.now()) timer = setTimeout(read, AGAIN_MS);
      } catch (problem) {
        if (!isOver) setError(problem);
      }
    };
    read();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [key, attempt]);

  return html`<main class="shift" aria-busy=${!report && !error}>
    <h1>${t("shift.title")}</h1>
    ${error && html`<${ProblemNote} error=${error} onRetry=${() => setAttempt(attempt + 1)} />`}
    ${report && html`<${Choice} report=${report} query=${query} /><${Figures} report=${report} query=${query} />`}
  </main>`;
}

/** @param {{report: Report, query: Record<string, string>}} props */
function Choice({ report, query }) {
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const { chosen, shifts, stations, products, zone } = report;
  /** @param {Record<string, string>} change */
  const go = (change) => navigate(withQuery("/shift", { ...query, ...change }));
  const value = (/** @type {Event} */ event) => /** @type {HTMLSelectElement} */ (event.currentTarget).value;
  const save = () => saveCsv(chosen, query).then(() => setError(null), setError);
  return html`<div class="shift-choice">
      <label class="field">
        ${t("shift.choose")}
        <select value=${chosen.since} onChange=${(/** @type {Event} */ event) => go({ since: value(event) })}>
          ${shifts.map((one) => html`<option key=${one.since} value=${one.since} selected=${one.since === chosen.since}>${shiftText(one, zone)}</option>`)}
        </select>
      </label>
      <label class="field">
        ${t("shift.station")}
        <select value=${query.station ?? ""} onChange=${(/** @type {Event} */ event) => go({ station: value(event) })}>
          <option value="">${t("shift.all_stations")}</option>
          ${stations.map((one) => html`<option key=${one} value=${one} selected=${one === query.station}>${one}</option>`)}
        </select>
      </label>
      <label class="field">
        ${t("shift.product")}
        <select value=${query.product ?? ""} onChange=${(/** @type {Event} */ event) => go({ product: value(event) })}>
          <option value="">${t("shift.all_products")}</option>
          ${products.map((one) => html`<option key=${one} value=${one} selected=${one === query.product}>${one}</option>`)}
        </select>
      </label>
      <div class="actions">
        <button type="button" onClick=${save}>${t("shift.csv")}</button>
        <button type="button" onClick=${() => print()}>${t("shift.print")}</button>
      </div>
    </div>
    ${report.isOther && html`<p class="note" role="status">${t("shift.not_listed")}</p>`}
    <p class="shift-span">
      <strong>${shiftText(chosen, zone)}</strong> <span class="hint">${zone}</span>
      ${query.station && html` · ${t("shift.of_station", { station: query.station })}`}
      ${query.product && html` · ${t("shift.of_product", { product: query.product })}`}
    </p>
    ${error && html`<${ProblemNote} error=${error} />`}`;
}

/** @param {{report: Report, query: Record<string, string>}} props */
function Figures({ report, query }) {
  const { now, before, chosen, zone } = report;
  const rejects = (/** @type {any[]} */ counted, /** @type {string} */ unnamed) =>
    counted.filter((one) => one.fail > 0).map((one) => ({ name: one.name ?? unnamed, count: one.fail }));
  const hasCodes = now.by_defect_code.some((/** @type {any} */ one) => one.code !== null);
  const titles = useDefectTitles(hasCodes ? now.by_product.map((/** @type {any} */ one) => one.name) : []);
  const codes = now.by_defect_code.map((/** @type {any} */ one) => ({
    name: one.code === null ? t("shift.no_code") : defectTitle(titles, one.code),
    code: one.code,
    count: one.parts,
  }));
  const isOver = Date.parse(chosen.until) <= Date.now();
  return html`<div class="shift-figures">
      <${Figure} name=${t("shift.parts")} value=${now.parts} before=${before?.parts} />
      <${Figure} name=${t("shift.yield")} value=${now.yield} before=${before?.yield} isShare=${true} better="more" />
      <${Figure} name=${t("shift.pass")} value=${now.pass} before=${before?.pass} kind="pass" />
      <${Figure} name=${t("shift.review")} value=${now.review} before=${before?.review} kind="review" />
      <${Figure} name=${t("shift.fail")} value=${now.fail} before=${before?.fail} kind="fail" />
      <${Figure} name=${t("shift.no_result")} value=${now.no_result} before=${before?.no_result} />
    </div>
    <p class="hint">
      ${t("shift.images", { n: now.images })} ${!isOver && t("shift.until_now")}
      ${now.unfinished > 0 && t("shift.unfinished", { n: now.unfinished })}
      ${now.overtime > 0 && t("shift.overtime", { n: now.overtime })} ${dispositionText(now.dispositions)}
    </p>
    ${now.parts === 0 && html`<p class="note">${t("shift.empty")}</p>`}
    <div class="shift-charts">
      <${Pareto} title=${t("shift.by_station")} bars=${rejects(now.by_station, t("shift.no_station"))} />
      <${Pareto} title=${t("shift.by_product")} bars=${rejects(now.by_product, t("shift.no_product"))} />
      <${Pareto} title=${t("shift.by_code")} bars=${codes} />
    </div>
    <${Hours} hours=${now.by_hour} zone=${zone} />
    <p class="no-print"><${Link} href=${withQuery("/history", { ...query, since: chosen.since, until: chosen.until, verdict: "fail" })}>${t("shift.show_rejects")}<//></p>`;
}

/**
 * A number, and what it was the shift before.
 * @param {{name: string, value: number | null, before?: number | null, isShare?: boolean, kind?: string}} props
 */
function Figure({ name, value, before, isShare = false, kind = "" }) {
  const shown = (/** @type {number | null | undefined} */ one) =>
    isShare ? formatNumber(one, PERCENT) : formatNumber(one);
  return html`<div class=${`card shift-figure ${kind && `shift-figure-${kind}`}`}>
    <span class="shift-figure-name">${name}</span>
    <strong class="shift-figure-value">${shown(value)}</strong>
    <span class="hint">${before === undefined || before === null ? t("shift.no_before") : t("shift.before", { value: shown(before) })}</span>
  </div>`;
}

/** @param {{scrap: number, rework: number, use_as_is: number}} dispositions */
function dispositionText(dispositions) {
  const decided = Object.entries(dispositions).filter(([, count]) => count > 0);
  const texts = decided.map(([name, count]) => `${t(`disposition.${name}`)}: ${formatNumber(count)}`);
  return texts.length > 0 ? t("shift.decided", { what: texts.join(", ") }) : "";
}

/**
 * @param {Shift} shift
 * @param {string} zone of the plant: a screen elsewhere shows the plant's time
 */
function shiftText({ name, since }, zone) {
  const style = /** @type {const} */ ({ weekday: "short", day: "numeric", month: "short", year: "numeric" });
  return `${formatMoment(since, { ...style, timeZone: zone })}, ${name.replace("-", "–")}`;
}

/**
 * Save the parts of a shift as a file; spreadsheets tell UTF-8 by the mark at its beginning.
 * @param {Shift} shift
 * @param {Record<string, string>} query
 */
async function saveCsv(shift, { station, product }) {
  const path = withQuery("/v1/statistics", { since: shift.since, until: shift.until, station, product });
  const answer = await fetch(path, { headers: { Accept: "text/csv" }, credentials: "same-origin" });
  if (!answer.ok) throw new Problem(answer.status, await answer.json());
  const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? "parts.csv";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", await answer.text()], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
