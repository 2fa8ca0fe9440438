/** Limit samples of a station: known parts that are shown to its camera, and what their verdicts said. */
import { api, Problem, stationPath } from "../lib/api.js";
import { followEvents } from "../lib/events.js";
import { html, useCallback, useEffect, useState } from "../lib/html.js";
import { usePolling } from "../lib/reading.js";
import { Link } from "../lib/router.js";
import { askPerson, hasScope, useSession } from "../lib/session.js";
import { formatDate, formatTime, t } from "../lib/texts.js";
import { confirmChange } from "../parts/dialog.js";
import { HoldControl } from "../parts/hold.js";
import { LimitSampleEditor } from "../parts/limit_sample_editor.js";
import { ProblemNote } from "../parts/problem.js";
import { StationSettings } from "../parts/station_settings.js";
import { Verdict, VerdictShape } from "../parts/verdict.js";

/**
 * @typedef {{serial: string, expected: "good" | "bad", note?: string | null}} Sample
 * @typedef {{serial: string, expected: "good" | "bad", verdict: "pass" | "review" | "fail" | null,
 *   inspection_id: string | null, ok: boolean | null}} CheckedSample
 * @typedef {{started_at: string, by: string | null, state: "running" | "passed" | "failed" | "cancelled",
 *   samples: CheckedSample[], ended_at: string | null, ended_by: string | null}} Check
 * @typedef {{samples: Sample[], changed_at: string | null, changed_by: string | null}} Plan
 * @typedef {Plan & {station: string, earlier_samples: Plan[], check: Check | null, earlier: Check[]}} LimitSamples
 */

const EVERY_MS = { running: 1_000, idle: 10_000 };
const SHAPES = /** @type {const} */ ({ running: null, passed: "pass", failed: "fail", cancelled: null });

/**
 * Return a station's limit samples, read anew at each of its events, and each second while a check runs.
 * @param {string} station
 */
function useLimitSamples(station) {
  const [found, setFound] = useState(/** @type {LimitSamples | null} */ (null));
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const [revision, setRevision] = useState(0);
  const load = useCallback(async () => {
    try {
      setFound(await api.get(stationPath(station, "/limit-samples")));
      setError(null);
    } catch (problem) {
      if (isNotSetUp(problem)) setFound(null);
      setError(problem);
    }
  }, [station]);
  const changed = () => {
    setRevision((before) => before + 1);
    load();
  };
  const isRunning = found?.check?.state === "running";
  usePolling(load, isRunning ? EVERY_MS.running : EVERY_MS.idle, [load, isRunning]);
  useEffect(
    () =>
      followEvents({ station }, (type) => {
        if (/^(station|limit_samples)\./.test(type)) changed();
      }),
    [station, load],
  );
  return { found, setFound, error, load, revision, changed };
}

/** @param {{params: {station: string}}} props */
export default function LimitSamplesPage({ params }) {
  const { station } = params;
  useSession();
  const { found, setFound, error, load, revision, changed } = useLimitSamples(station);
  const [failure, setFailure] = useState(/** @type {unknown} */ (null));
  const [isEditing, setEditing] = useState(false);
  /**
   * @param {"POST" | "PUT" | "DELETE"} method
   * @param {string} rest
   * @param {unknown} [body]
   */
  const send = async (method, rest, body) => {
    if ((await askPerson()) === null) return false;
    setFailure(null);
    try {
      setFound(await api.send(method, stationPath(station, rest), body));
      return true;
    } catch (problem) {
      setFailure(problem);
      await load();
      return false;
    }
  };
  const start = async () => {
    const text = t("limit_samples.start_text", { n: found?.samples.length ?? 0 });
    const question = { title: t("limit_samples.start_title"), text, action: t("limit_samples.start") };
    if (await confirmChange(question)) await send("POST", "/limit-samples/check", {});
  };
  const cancel = async () => {
    const question = { title: t("limit_samples.cancel_title"), text: t("limit_samples.cancel_text") };
    if (await confirmChange({ ...question, action: t("limit_samples.cancel") }))
      await send("DELETE", "/limit-samples/check");
  };
  /** @param {Sample[]} samples */
  const save = async (samples) => {
    const values = { before: found?.samples.length ?? 0, after: samples.length };
    const question = { title: t("limit_samples.save_title"), text: t("limit_samples.save_text", values) };
    if (!(await confirmChange({ ...question, action: t("limit_samples.save") }))) return;
    if (await send("PUT", "/limit-samples", { samples })) setEditing(false);
  };
  return html`<main>
    <div class="limit-head">
      <h1>${t("limit_samples.of", { station })}</h1>
      <${Link} class="button" href=${`/line/${encodeURIComponent(station)}`}>${t("limit_samples.to_line")}<//>
    </div>
    <${HoldControl} station=${station} revision=${revision} onChange=${changed} />
    ${failure && html`<${ProblemNote} error=${failure} />`}
    ${
      isNotSetUp(error)
        ? html`<p class="note" role="status">${t("setup.not_yet", { station })}</p>`
        : error && html`<${ProblemNote} error=${error} onRetry=${load} />`
    }
    ${
      found &&
      html`<div class="limit-cards">
        <${CheckCard} found=${found} onStart=${start} onCancel=${cancel} />
        ${
          isEditing
            ? html`<${LimitSampleEditor} samples=${found.samples} onSave=${save} onClose=${() => setEditing(false)} />`
            : html`<${PlanCard} found=${found} onEdit=${() => setEditing(true)} />`
        }
        <${EarlierPlans} plans=${found.earlier_samples} onRestore=${mayEdit(found) && !isEditing ? save : null} />
        <${EarlierCard} checks=${found.earlier} />
        <${StationSettings} station=${station} revision=${revision} onChange=${changed} />
      </div>`
    }
  </main>`;
}

/** @param {LimitSamples} found */
function mayEdit(found) {
  return hasScope("admin") && found.check?.state !== "running";
}

/** @param {unknown} error */
function isNotSetUp(error) {
  return error instanceof Problem && error.status === 404;
}

/** @param {{state: Check["state"], small?: boolean}} props */
function CheckState({ state, small = false }) {
  return html`<span class=${`limit-state limit-state-${state}${small ? " limit-small" : ""}`}>
    <${VerdictShape} verdict=${SHAPES[state]} /> <span>${t(`limit_samples.state.${state}`)}</span>
  </span>`;
}

/** @param {{found: LimitSamples, onStart: () => void, onCancel: () => void}} props */
function CheckCard({ found, onStart, onCancel }) {
  const { check } = found;
  const isRunning = check?.state === "running";
  const canStart = !isRunning && found.samples.length > 0 && hasScope("review");
  return html`<section class="card" aria-labelledby="limit-check">
    <h2 id="limit-check">${t("limit_samples.check")}</h2>
    <div role="status">
      ${check ? html`<${CheckState} state=${check.state} />` : html`<p>${t("limit_samples.never")} ${found.samples.length === 0 && t("limit_samples.none_named")}</p>`}
      ${check && html`<p class="hint">${t("limit_samples.started", { at: formatDate(check.started_at), by: check.by ?? "–" })}</p>`}
      ${check && html`<p>${t(`limit_samples.next.${check.state}`, { by: check.ended_by ?? "–" })}</p>`}
    </div>
    ${check && html`<${CheckTable} check=${check} notes=${found.samples} />`}
    <div class="actions">
      ${canStart && html`<button type="button" class="primary" onClick=${onStart}>${t("limit_samples.start")}</button>`}
      ${isRunning && hasScope("review") && html`<button type="button" onClick=${onCancel}>${t("limit_samples.cancel")}</button>`}
      ${!hasScope("review") && html`<p class="hint">${t("limit_samples.needs_review")}</p>`}
    </div>
  </section>`;
}

/** @param {{check: Check, notes: Sample[]}} props */
function CheckTable({ check, notes }) {
  return html`<div class="limit-table" tabindex="0" role="group" aria-label=${t("limit_samples.check")}>
    <table>
      <thead>
        <tr>
          <th>${t("limit_samples.serial")}</th>
          <th>${t("limit_samples.expected")}</th>
          <th>${t("limit_samples.verdict")}</th>
        </tr>
      </thead>
      <tbody>
        ${check.samples.map(
          (one) => html`<tr key=${one.serial}>
            <td class="limit-serial">
              ${one.inspection_id ? html`<${Link} href=${`/inspections/${one.inspection_id}`}>${one.serial}<//>` : one.serial}
              <div class="hint">${notes.find((note) => note.serial === one.serial)?.note}</div>
            </td>
            <td>${t(`limit_samples.${one.expected}`)}</td>
            <td>
              ${one.verdict && html`<${Verdict} verdict=${one.verdict} />`}
              <div><${Outcome} ok=${one.ok} /></div>
            </td>
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** @param {{ok: boolean | null}} props */
function Outcome({ ok }) {
  if (ok === null) return html`<span class="hint">${t("limit_samples.not_shown")}</span>`;
  return ok ? t("limit_samples.right") : html`<span class="limit-wrong">${t("limit_samples.wrong")}</span>`;
}

/** @param {{found: LimitSamples, onEdit: () => void}} props */
function PlanCard({ found, onEdit }) {
  const { samples } = found;
  return html`<section class="card" aria-labelledby="limit-plan">
    <h2 id="limit-plan">${t("limit_samples.samples")}</h2>
    <p class="hint">${t("limit_samples.explained")}</p>
    ${
      samples.length > 0 &&
      html`<div class="limit-table" tabindex="0" role="group" aria-label=${t("limit_samples.samples")}>
        <table>
          <thead>
            <tr>
              <th>${t("limit_samples.serial")}</th>
              <th>${t("limit_samples.expected")}</th>
              <th>${t("limit_samples.note")}</th>
            </tr>
          </thead>
          <tbody>
            ${samples.map(
              (one) => html`<tr key=${one.serial}>
                <td class="limit-serial">${one.serial}</td>
                <td>${t(`limit_samples.${one.expected}`)}</td>
                <td>${one.note ?? ""}</td>
              </tr>`,
            )}
          </tbody>
        </table>
      </div>`
    }
    ${found.changed_at && html`<p class="hint">${t("limit_samples.changed", { at: formatDate(found.changed_at), by: found.changed_by ?? "–" })}</p>`}
    <div class="actions">
      ${mayEdit(found) && html`<button type="button" onClick=${onEdit}>${t("limit_samples.edit")}</button>`}
    </div>
  </section>`;
}

/** @param {{plans: Plan[], onRestore: ((samples: Sample[]) => void) | null}} props `onRestore` null: not now, or not allowed */
function EarlierPlans({ plans, onRestore }) {
  if (plans.length === 0) return null;
  return html`<section class="card" aria-labelledby="limit-plans">
    <h2 id="limit-plans">${t("limit_samples.earlier_samples")}</h2>
    <ul class="limit-plans">
      ${plans.map(
        (plan, place) => html`<li key=${place}>
          <div>
            ${plan.samples.map((one) => one.serial).join(", ") || t("limit_samples.no_samples")}
            <div class="hint">${t("limit_samples.changed", { at: formatDate(plan.changed_at), by: plan.changed_by ?? "–" })}</div>
          </div>
          ${onRestore && html`<button type="button" onClick=${() => onRestore(plan.samples)}>${t("limit_samples.restore")}</button>`}
        </li>`,
      )}
    </ul>
  </section>`;
}

/** @param {{checks: Check[]}} props */
function EarlierCard({ checks }) {
  if (checks.length === 0) return null;
  return html`<section class="card" aria-labelledby="limit-earlier">
    <h2 id="limit-earlier">${t("limit_samples.earlier")}</h2>
    <div class="limit-table" tabindex="0" role="group" aria-label=${t("limit_samples.earlier")}>
      <table>
        <tbody>
          ${checks.map(
            (check) => html`<tr key=${check.started_at}>
              <td>${formatDate(check.started_at)} – ${formatTime(check.ended_at)}</td>
              <td>${check.by ?? "–"}</td>
              <td>
                <${CheckState} state=${check.state} small=${true} />
                ${check.ended_by && html`<div class="hint">${t("limit_samples.ended_by", { by: check.ended_by })}</div>`}
              </td>
              <td>${wrongOnes(check)}</td>
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </section>`;
}

/** @param {Check} check */
function wrongOnes(check) {
  return check.samples
    .filter((one) => one.ok === false)
    .map((one) => `${one.serial}: ${t(`verdict.${one.verdict ?? "none"}`)}`)
    .join(", ");
}
