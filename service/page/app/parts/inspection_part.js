/** The part that an inspection belongs to: its verdict, its other views, and what becomes of it. */
import { api } from "../lib/api.js";
import { html, useCallback, useEffect, useState } from "../lib/html.js";
import { Link } from "../lib/router.js";
import { askPerson, hasScope } from "../lib/session.js";
import { formatDate, t } from "../lib/texts.js";
import { confirmChange } from "./dialog.js";
import { ProblemNote } from "./problem.js";
import { Verdict } from "./verdict.js";

const DISPOSITIONS = ["scrap", "rework", "use_as_is"];

/** @param {{inspection: any}} props of one with a serial */
export function InspectionPart({ inspection }) {
  const path = `/v1/parts/${encodeURIComponent(inspection.serial)}`;
  const [part, setPart] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const load = useCallback(() => api.get(path).then(setPart, setError), [path]);
  useEffect(() => {
    load();
  }, [load]);
  if (error) return html`<section class="card"><h2>${t("part.title")}</h2><${ProblemNote} error=${error} /></section>`;
  if (!part) return null;
  return html`<section class="card">
    <h2>${t("part.title_of", { serial: part.serial })}</h2>
    <p class="part-verdict"><${Verdict} verdict=${part.verdict} /> ${!part.finished && t("part.unfinished")}</p>
    <ul class="part-views">
      ${part.views.map((/** @type {any} */ view) => html`<li key=${JSON.stringify([view.product, view.view])}><${View} view=${view} here=${inspection.id} /></li>`)}
    </ul>
    ${"disposition" in part && html`<${Disposition} part=${part} path=${path} onChange=${setPart} />`}
  </section>`;
}

/** @param {{view: any, here: string}} props */
function View({ view, here }) {
  const name = [view.view ?? t("part.no_view"), view.product].filter(Boolean).join(" · ");
  const isHere = view.inspection_id === here;
  return html`<${Verdict} verdict=${view.verdict} />
    <span>
      ${view.inspection_id && !isHere ? html`<${Link} href=${`/inspections/${view.inspection_id}`}>${name}<//>` : name}
      ${isHere && html` <span class="hint">${t("part.this_one")}</span>`}
    </span>
    <span class="hint">${t(`part.reason.${view.reason}`)}</span>`;
}

/** @param {{part: any, path: string, onChange: (part: any) => void}} props */
function Disposition({ part, path, onChange }) {
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const present = part.disposition?.disposition ?? null;
  /** @param {string | null} disposition @param {string} note */
  const send = async (disposition, note) => {
    const title = disposition ? t(`disposition.${disposition}`) : t("part.take_back");
    const text = t("part.disposition_text", { serial: part.serial });
    if (!(await confirmChange({ title, text, action: title })) || !(await askPerson())) return;
    try {
      onChange(await api.send("PUT", `${path}/disposition`, { disposition, note: note || null }));
      setError(null);
    } catch (problem) {
      setError(problem);
    }
  };
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    const given = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    send(String(given.get("disposition")), String(given.get("note") ?? "").trim());
  };
  return html`<h3>${t("part.disposition")}</h3>
    ${!present && html`<p class="hint">${t("part.no_disposition")}</p>`}
    <ul class="part-dispositions">
      ${part.dispositions.map((/** @type {any} */ one, /** @type {number} */ place) => html`<li key=${place}><${Decided} decided=${one} isPresent=${Boolean(present) && place === part.dispositions.length - 1} /></li>`)}
    </ul>
    ${
      hasScope("review") &&
      html`<form class="part-decide" onSubmit=${submit}>
        <label class="field">
          ${t("part.decide")}
          <select name="disposition">
            ${DISPOSITIONS.map((one) => html`<option key=${one} value=${one} selected=${one === present}>${t(`disposition.${one}`)}</option>`)}
          </select>
        </label>
        <label class="field">${t("part.note")}<input name="note" maxlength="500" autocomplete="off" /></label>
        <div class="actions">
          ${present && html`<button type="button" onClick=${() => send(null, "")}>${t("part.take_back")}</button>`}
          <button type="submit">${t("part.record")}</button>
        </div>
      </form>`
    }
    ${error && html`<${ProblemNote} error=${error} />`}`;
}

/** @param {{decided: any, isPresent: boolean}} props */
function Decided({ decided, isPresent }) {
  const what = decided.disposition ? t(`disposition.${decided.disposition}`) : t("part.taken_back");
  return html`${isPresent ? html`<strong>${what}</strong>` : what} · ${decided.by} · ${formatDate(decided.at)}
    ${decided.note && html`<br />${decided.note}`}`;
}
