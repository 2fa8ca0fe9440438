/** A station's hold: why nothing passes, since when, and the buttons that hold and release. */
import { api, Problem, stationPath, withQuery } from "../lib/api.js";
import { html, useCallback, useState } from "../lib/html.js";
import { usePolling } from "../lib/reading.js";
import { askPerson, hasScope } from "../lib/session.js";
import { formatDate, t } from "../lib/texts.js";
import { confirmChange, Dialog, showDialog } from "./dialog.js";
import { ProblemNote } from "./problem.js";
import { holdText } from "./reason.js";
import { StationSetup } from "./station_setup.js";

const EVERY_MS = 10_000;
/** As many characters as the service takes. */
const LONGEST_REASON = 128;

/**
 * @typedef {object} Station
 * @property {string} station
 * @property {string} product
 * @property {string | null} hold
 * @property {string | null} held_at
 * @property {string | null} held_by
 * @property {any} held_sample the limit sample that put it on hold; null: a person did
 * @property {{reason: string, sample: any, at: string, by: string | null} | null} check_hold of a failed check, behind
 *   the hold of a person
 */

/**
 * Return a station as it is now, read anew every ten seconds and when `revision` changes. `found` null: nobody has set
 * it up; undefined: not known yet.
 * @param {string} station
 * @param {unknown} revision
 */
function useStation(station, revision) {
  const [found, setFound] = useState(/** @type {Station | null | undefined} */ (undefined));
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const load = useCallback(async () => {
    try {
      const answer = await api.get("/v1/stations");
      setFound(answer.stations.find((/** @type {Station} */ one) => one.station === station) ?? null);
      setError(null);
    } catch (problem) {
      setError(problem);
    }
  }, [station]);
  usePolling(load, EVERY_MS, [load, revision]);
  return { found, error, load };
}

/** @returns {Promise<string | null>} the reason; null if they did not say */
function askForReason() {
  return showDialog((answer) => {
    /** @param {SubmitEvent} event */
    const accept = (event) => {
      event.preventDefault();
      const fields = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
      const reason = String(fields.get("reason") ?? "").trim();
      if (reason) answer(reason);
    };
    return html`<${Dialog} title=${t("hold.hold_title")} onClose=${() => answer(null)}>
      <form onSubmit=${accept}>
        <p class="dialog-text">${t("hold.hold_text")}</p>
        <label class="field">${t("hold.reason")}
          <input name="reason" required maxlength=${LONGEST_REASON} autofocus autocomplete="off" />
        </label>
        <div class="actions">
          <button type="button" onClick=${() => answer(null)}>${t("common.cancel")}</button>
          <button type="submit" class="primary danger">${t("hold.hold")}</button>
        </div>
      </form>
    <//>`;
  });
}

/**
 * @param {{station: string, revision?: unknown, onChange?: () => void}} props `revision`: with another value the
 * station is read anew, as after an event; `onChange`: called after a change from here
 */
export function HoldControl({ station, revision, onChange = () => {} }) {
  const { found, error, load } = useStation(station, revision);
  const [failure, setFailure] = useState(/** @type {unknown} */ (null));
  /** @param {() => Promise<unknown>} change */
  const make = async (change) => {
    setFailure(null);
    try {
      await change();
      onChange();
    } catch (problem) {
      setFailure(problem);
    }
    await load();
  };
  const hold = async () => {
    const reason = await askForReason();
    if (reason === null || (await askPerson()) === null) return;
    await make(() => api.send("PUT", stationPath(station, "/hold"), { reason }));
  };
  const release = async () => {
    const { hold: reason, held_sample, check_hold } = /** @type {Station} */ (found);
    const values = { reason: holdText(reason ?? "", held_sample), other: check_hold ? checkText(check_hold) : "" };
    const text = check_hold ? t("hold.release_one", values) : t("hold.release_text", { station });
    const question = { title: t("hold.release_title"), text, action: t("hold.release") };
    if (!(await confirmChange(question)) || (await askPerson()) === null) return;
    // Only what the person has read: another one may have released that meanwhile, and a check's hold be in force.
    await make(() => api.send("DELETE", withQuery(stationPath(station, "/hold"), { reason })));
  };
  const problem = failure ?? (error instanceof Problem && error.status === 401 ? null : error);
  const note = problem && html`<${ProblemNote} error=${problem} />`;
  if (found === undefined) return html`<div class="hold">${note}</div>`;
  if (found === null) {
    return html`<div class="hold">${note}<${StationSetup} station=${station} onDone=${() => make(async () => {})} /></div>`;
  }
  if (found.hold === null) {
    return html`<div class="hold">
      ${note}
      ${
        hasScope("review")
          ? html`<button type="button" onClick=${hold}>${t("hold.hold")}</button>`
          : html`<p class="hint">${t("hold.needs_review")}</p>`
      }
    </div>`;
  }
  const releaseButton =
    hasScope("review") && html`<button type="button" onClick=${release}>${t("hold.release")}</button>`;
  return html`<div class="hold">
    ${note}
    <div class="hold-held" role="status">
      <svg class="hold-shape" viewBox="0 0 24 24" aria-hidden="true">
        <path fill="currentColor" d="M3 1h18l2 2v18l-2 2H3l-2-2V3ZM7 6v12h3.500V6Zm6.500 0v12H17V6Z" />
      </svg>
      <div class="hold-text">
        <p><strong>${t("hold.held")}</strong> ${holdText(found.hold, found.held_sample)}</p>
        <p class="hint">${whoAndWhen(found.held_at, found.held_by)} ${t("hold.meaning")}</p>
        ${found.check_hold && html`<${AlsoByCheck} hold=${found.check_hold} />`}
      </div>
      ${releaseButton}
    </div>
  </div>`;
}

/** @param {{hold: NonNullable<Station["check_hold"]>}} props */
function AlsoByCheck({ hold }) {
  return html`<p><strong>${t("hold.also")}</strong> ${checkText(hold)}</p>
    <p class="hint">${whoAndWhen(hold.at, hold.by)}</p>`;
}

/** @param {NonNullable<Station["check_hold"]>} hold */
function checkText({ reason, sample }) {
  return holdText(reason, sample);
}

/** @param {string | null} at @param {string | null} by */
function whoAndWhen(at, by) {
  return at ? t("hold.since", { since: formatDate(at), by: by ?? "–" }) : "";
}
