/** A product's review plan: what share people look at, and the plant's own list of defects. For admins. */
import { api } from "../lib/api.js";
import { takeFocus } from "../lib/focus.js";
import { html, useEffect, useState } from "../lib/html.js";
import { askPerson } from "../lib/session.js";
import { formatDate, formatNumber, t } from "../lib/texts.js";
import { confirmChange } from "./dialog.js";
import { ProblemNote } from "./problem.js";
import { isOutdated } from "./product_data.js";

/** @typedef {{code: string, title: string, key: string | null}} DefectKind */
/** @typedef {{audit_share: number, double_read_share: number, defect_codes: DefectKind[]}} Settings */
/** @typedef {Settings & {revision: number, by: string | null, at: string | null}} Change */
/** @typedef {Change & {earlier: Change[]}} Plan */

/** What the form proposes while nobody has set a plan: it holds only when somebody saves it. */
const PROPOSED = { audit_share: 0.02, double_read_share: 0.1 };
/** @type {DefectKind} */
const NEW_KIND = { code: "", title: "", key: null };

/** Give it the product as `key` too: what comes late of another one is then not shown. @param {{product?: string}} props */
export function ReviewPlan({ product }) {
  const [plan, setPlan] = useState(/** @type {Plan | null} */ (null));
  const [edited, setEdited] = useState(/** @type {Plan | null} */ (null));
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const path = `/v1/products/${product}/review-plan`;
  /** Show a plan, and begin with it. @param {Plan | null} found */
  const begin = (found) => {
    setPlan(found);
    setEdited(found);
  };
  const read = () => {
    setProblem(null);
    begin(null);
    if (product) api.get(path).then(begin, setProblem);
  };
  useEffect(read, []);

  /** @param {Settings} settings @param {string} title */
  const save = async ({ audit_share, double_read_share, defect_codes }, title) => {
    const settings = { audit_share, double_read_share, defect_codes };
    const isSure = await confirmChange({ title, text: planText(settings), action: t("review.plan_save") });
    const by = isSure ? await askPerson() : null;
    if (by === null) return;
    setProblem(null);
    const headers = { "If-Match": `"${plan?.revision}"` };
    try {
      begin(await api.send("PUT", path, { ...settings, by }, { headers }));
    } catch (refusal) {
      // The form goes on from what was typed; saved once more, it replaces a plan that the person has seen.
      await (isOutdated(refusal) ? api.get(path).then(setPlan) : Promise.reject(refusal)).catch(setProblem);
    }
  };
  if (!product) return html`<p class="note">${t("review.plan_no_product")}</p>`;
  return html`<section class="review-plan">
    <h2>${t("review.plan_of", { product })}</h2>
    ${Boolean(problem) && html`<${ProblemNote} error=${problem} onRetry=${plan ? undefined : read} />`}
    ${plan && plan !== edited && html`<${Meanwhile} plan=${plan} onTake=${() => begin(plan)} />`}
    ${edited && html`<${Form} key=${edited.revision} plan=${edited} onSave=${save} />`}
    ${plan && html`<${Earlier} plan=${plan} onSave=${save} />`}
  </section>`;
}

/** Somebody else changed the plan since the form began. @param {{plan: Plan, onTake: () => void}} props */
function Meanwhile({ plan, onTake }) {
  const at = plan.at ? formatDate(plan.at) : "–";
  return html`<div class="note note-problem" role="alert">
    <p>${t("review.plan_meanwhile", { by: plan.by ?? "–", at })}</p>
    <p>${t("review.plan_now", { plan: planText(plan) })}</p>
    <p>${t("review.plan_yours")}</p>
    <div class="actions"><button type="button" onClick=${onTake}>${t("review.plan_take")}</button></div>
  </div>`;
}

/** @param {{plan: Plan, onSave: (settings: Settings, title: string) => void}} props */
function Form({ plan, onSave }) {
  const [kinds, setKinds] = useState(plan.defect_codes);
  const [added, setAdded] = useState(-1);
  const { audit_share, double_read_share } = plan.at ? plan : PROPOSED;
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    const share = (/** @type {string} */ name) => Math.round(Number(form.get(name)) * 100) / 10_000;
    const settings = { audit_share: share("audit"), double_read_share: share("double_read"), defect_codes: kinds };
    onSave(settings, t("review.plan_ask"));
  };
  const add = () => {
    setAdded(kinds.length);
    setKinds([...kinds, NEW_KIND]);
  };
  /** @param {number} place @param {Partial<DefectKind>} change */
  const edit = (place, change) => setKinds(kinds.map((one, index) => (index === place ? { ...one, ...change } : one)));
  return html`<form onSubmit=${submit}>
    <p class="review-small">${plan.at ? t("review.plan_by", { by: plan.by ?? "–", at: formatDate(plan.at) }) : t("review.plan_proposed")}</p>
    <${Share} name="audit" value=${audit_share} label=${t("review.plan_audit")} help=${t("review.plan_audit_help")} />
    <${Share} name="double_read" value=${double_read_share} label=${t("review.plan_double")}
      help=${t("review.plan_double_help")} />
    <fieldset>
      <legend>${t("review.plan_codes")}</legend>
      <p class="review-small">${t("review.plan_codes_help")}</p>
      ${kinds.map(
        (kind, place) => html`<${KindRow} key=${place} kind=${kind} n=${place + 1} isNew=${place === added}
        onChange=${(/** @type {Partial<DefectKind>} */ change) => edit(place, change)}
        onRemove=${() => setKinds(kinds.filter((_, index) => index !== place))} />`,
      )}
      <button type="button" onClick=${add}>${t("review.plan_add")}</button>
    </fieldset>
    <div class="actions"><button type="submit" class="primary">${t("review.plan_save")}</button></div>
  </form>`;
}

/** @param {{name: string, value: number, label: string, help: string}} props */
function Share({ name, value, label, help }) {
  return html`<label class="field">${label}
    <input type="number" name=${name} min="0" max="100" step="0.01" required defaultValue=${String(100 * value)} />
    <small>${help}</small>
  </label>`;
}

/** @param {{kind: DefectKind, n: number, isNew: boolean, onChange: (change: Partial<DefectKind>) => void, onRemove: () => void}} props */
function KindRow({ kind, n, isNew, onChange, onRemove }) {
  const typed = (/** @type {Event} */ event) => /** @type {HTMLInputElement} */ (event.currentTarget).value;
  return html`<div class="review-kind" role="group" aria-label=${t("review.plan_code_n", { n })}>
    <label class="field">${t("review.plan_title")}
      <input ref=${isNew ? takeFocus : undefined} required maxlength="128" value=${kind.title} onInput=${(/** @type {Event} */ event) => onChange({ title: typed(event) })} />
    </label>
    <label class="field">${t("review.plan_code")}
      <input required maxlength="32" pattern="[A-Za-z0-9][A-Za-z0-9_\\-]*" value=${kind.code}
        onInput=${(/** @type {Event} */ event) => onChange({ code: typed(event) })} />
    </label>
    <label class="field review-kind-key">${t("review.plan_key")}
      <input maxlength="1" pattern="[a-ce-np-z0-9]" value=${kind.key ?? ""}
        onInput=${(/** @type {Event} */ event) => onChange({ key: typed(event).toLowerCase() || null })} />
    </label>
    <button type="button" onClick=${onRemove}>${t("review.plan_remove")}</button>
  </div>`;
}

/** Who changed the plan and when, with the way back. @param {{plan: Plan, onSave: (settings: Settings, title: string) => void}} props */
function Earlier({ plan, onSave }) {
  return html`${plan.earlier.length > 0 && html`<h3>${t("review.plan_earlier")}</h3>`}
    <ul class="review-earlier">${plan.earlier.map(
      (one) => html`<li key=${one.revision}>
      <span>${planText(one)}</span>
      <span class="review-small">${one.at ? t("review.plan_by", { by: one.by ?? "–", at: formatDate(one.at) }) : t("review.plan_never")}</span>
      <button type="button" onClick=${() => onSave(one, t("review.plan_ask_restore"))}>${t("review.plan_restore")}</button>
    </li>`,
    )}</ul>`;
}

/** @param {Settings} plan */
function planText({ audit_share, double_read_share, defect_codes }) {
  const share = (/** @type {number} */ value) => formatNumber(value, { style: "percent", maximumFractionDigits: 2 });
  return t("review.plan_text", {
    audit: share(audit_share),
    double: share(double_read_share),
    codes:
      defect_codes.map((one) => (one.key ? `${one.title} (${one.key.toUpperCase()})` : one.title)).join(", ") || "–",
  });
}
