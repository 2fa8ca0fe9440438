/** The scores of the last parts, with the two thresholds to move: what a change does is shown before it is made. */
import { api } from "../lib/api.js";
import { html, useLayoutEffect, useState } from "../lib/html.js";
import { expectedText, formatValue } from "../lib/limits.js";
import { useLoaded } from "../lib/reading.js";
import { hasScope } from "../lib/session.js";
import { formatDate, t } from "../lib/texts.js";
import { Examples } from "./examples.js";
import { LimitChart } from "./limit_chart.js";
import { LimitInput } from "./limit_input.js";
import { ProblemNote } from "./problem.js";
import { changeProduct, isOutdated, productPath, refusalText, usePreview } from "./product_data.js";

/** @typedef {{review: number, fail: number, pixel: number}} Limits */
/** @typedef {{from: number, to: number, pass: number, review: number, fail: number, ok: number, defect: number, calibration: number}} ScoreBin */

/** Inspections in the histogram. */
const SHOWN = 2000;
const NAMES = /** @type {const} */ (["review", "fail", "pixel"]);

/** @param {{product: any, version: any, onChanged: () => void}} props */
export function Thresholds({ product, version, onChanged }) {
  const path = productPath(product.product);
  const inForce = /** @type {Limits} */ (version.thresholds);
  const [moved, setMoved] = useState(/** @type {Partial<Limits>} */ ({}));
  const [note, setNote] = useState("");
  const [refused, setRefused] = useState(/** @type {unknown} */ (null));
  const key = `${product.product} ${version.version} ${product.revision}`;
  const scores = useLoaded(key, () => api.get(`${path}/scores`, { version: version.version, last: SHOWN }));
  useLayoutEffect(() => setMoved({}), [key]); // before the paint: it would take back what is moved meanwhile
  const limits = { ...inForce, ...moved };
  const changes = Object.fromEntries(
    NAMES.filter((one) => limits[one] !== inForce[one]).map((one) => [one, limits[one]]),
  );
  const isChanged = Object.keys(changes).length > 0;
  const isPossible = limits.review <= limits.fail && limits.fail > 0 && limits.pixel > 0;
  const preview = usePreview(
    `${path}/thresholds`,
    isChanged && isPossible && hasScope("admin") ? { version: version.version, ...changes } : null,
  );
  const mayChange = hasScope("admin");

  /** @param {string} name @param {number} value */
  const move = (name, value) => {
    setRefused(null);
    const at = name === "review" ? Math.min(value, limits.fail) : Math.max(value, limits.review);
    setMoved({ ...moved, [name]: at });
  };
  /** @param {string} name @param {number} value also one that is not possible: it may not be complete */
  const type = (name, value) => {
    setRefused(null);
    setMoved({ ...moved, [name]: value });
  };
  /** @param {Record<string, number | null>} values @param {string} title @param {any} text */
  const change = async (values, title, text) => {
    setRefused(null);
    try {
      const made = await changeProduct({
        question: { title, text, action: t("product.apply") },
        method: "PATCH",
        path: `${path}/thresholds?last=0`,
        body: { version: version.version, ...values, ...(note ? { note } : {}) },
        revision: product.revision,
      });
      if (!made) return;
      setNote("");
      onChanged();
    } catch (error) {
      setRefused(error);
      if (isOutdated(error)) onChanged();
    }
  };
  const apply = () =>
    change(
      changes,
      t("product.apply_thresholds", { version: version.version }),
      html`${NAMES.filter((one) => one in changes).map(
        (one) =>
          html`<p key=${one}>${t(`product.${one}`)}: ${formatValue(inForce[one])} → <strong>${formatValue(limits[one])}</strong></p>`,
      )}<p>${effectText(preview.data?.effect)}</p>`,
    );
  const reset = () =>
    change(
      { review: null, fail: null, pixel: null },
      t("product.reset_thresholds", { version: version.version }),
      html`${NAMES.map((one) => html`<p key=${one}>${t(`product.${one}`)}: ${formatValue(inForce[one])} → <strong>${formatValue(version.calibrated[one])}</strong></p>`)}`,
    );
  const isOverridden = version.calibrated && NAMES.some((one) => version.calibrated[one] !== inForce[one]);

  return html`<section class="card product-section" aria-labelledby="thresholds">
    <h2 id="thresholds">${t("product.thresholds")}</h2>
    <p>${t("product.thresholds_text")}</p>
    ${scores.error && html`<${ProblemNote} error=${scores.error} onRetry=${scores.reload} />`}
    ${!scores.data && !scores.error && html`<div class="chart-waiting" aria-busy="true">${t("product.reading")}</div>`}
    ${scores.data && html`<${ScoreChart} scores=${scores.data} limits=${limits} inForce=${inForce} onMove=${mayChange ? move : null} />`}
    <div class="limit-fields">
      ${NAMES.map(
        (one) => html`<label class="field" key=${one}>
          ${t(`product.${one}`)}
          <${LimitInput} value=${limits[one]} isDisabled=${!mayChange} onMove=${(/** @type {number} */ value) => type(one, value)} />
          <span class="hint calibrated">${t("product.calibrated_value", { value: formatValue(version.calibrated?.[one] ?? inForce[one]) })}</span>
        </label>`,
      )}
    </div>
    ${!mayChange && html`<p class="hint">${t("product.may_not_change")}</p>`}
    ${!isPossible && html`<p class="note note-problem" role="alert">${t("product.review_above_fail")}</p>`}
    ${preview.error && html`<${ProblemNote} error=${preview.error} />`}
    <div class="effect" aria-live="polite" aria-busy=${preview.isPending ? "true" : undefined} data-pending=${preview.isPending}>
      ${isChanged && isPossible ? html`<${EffectNote} effect=${preview.data?.effect} />` : html`<p class="hint">${t("product.not_moved")}</p>`}
    </div>
    ${refused && html`<p class="note note-problem" role="alert">${refusalText(refused)}</p>`}
    ${
      mayChange &&
      html`<label class="field">${t("product.why")}<input value=${note} maxlength="500" onInput=${(/** @type {any} */ event) => setNote(event.currentTarget.value)} /></label>
        <div class="actions">
          <button type="button" disabled=${!isOverridden} onClick=${reset}>${t("product.to_calibrated")}</button>
          <button type="button" disabled=${!isChanged} onClick=${() => setMoved({})}>${t("product.discard")}</button>
          <button type="button" class="primary" disabled=${!isChanged || !isPossible || !preview.data} onClick=${apply}>${t("product.apply")}</button>
        </div>`
    }
  </section>`;
}

/** @param {{scores: any, limits: Limits, inForce: Limits, onMove: ((name: string, value: number) => void) | null}} props */
function ScoreChart({ scores, limits, inForce, onMove }) {
  const all = /** @type {ScoreBin[]} */ (scores.bins);
  const isTail = all.length > 0 && all[all.length - 1].from >= scores.high;
  const shown = isTail ? all.slice(0, -1) : all;
  const isEmpty = scores.compared === 0;
  /** @param {ScoreBin} one */
  const asBar = (one) => ({
    from: one.from,
    to: one.to,
    count: isEmpty ? one.calibration : one.pass + one.review + one.fail,
  });
  /** @param {"ok" | "defect"} name */
  const asMarks = (name) => all.map((one) => ({ from: one.from, to: one.to, count: one[name] }));
  /** @param {number} value */
  const toneOf = (value) => (value >= limits.fail ? "fail" : value >= limits.review ? "review" : "pass");
  const middle = (/** @type {ScoreBin} */ one) => (one.from + one.to) / 2;
  const missed = sum(all.filter((one) => middle(one) < limits.review).map((one) => one.defect));
  const alarms = sum(all.filter((one) => middle(one) >= limits.fail).map((one) => one.ok));
  const reviewed = sum(all.map((one) => one.ok + one.defect));
  return html`<div>
    <${LimitChart}
      title=${t("product.chart", { n: scores.compared })}
      low=${scores.low}
      high=${scores.high}
      bars=${shown.map(asBar)}
      tail=${isTail ? asBar(all[all.length - 1]) : null}
      toneOf=${toneOf}
      lines=${[
        {
          name: "review",
          title: t("product.review"),
          label: t("product.review_from"),
          tone: "review",
          value: limits.review,
          inForce: inForce.review,
        },
        {
          name: "fail",
          title: t("product.fail"),
          label: t("product.fail_from"),
          tone: "fail",
          value: limits.fail,
          inForce: inForce.fail,
        },
      ]}
      marks=${
        reviewed
          ? [
              { tone: "pass", shape: "disc", bars: asMarks("ok") },
              { tone: "fail", shape: "cross", bars: asMarks("defect") },
            ]
          : []
      }
      onMove=${onMove}
    />
    <p class="hint">
      ${isEmpty ? t("product.chart_empty", { n: sum(all.map((one) => one.calibration)) }) : t("product.chart_of", { n: scores.compared, since: formatDate(scores.oldest) })}
      ${" "}${t("product.chart_heights")}
    </p>
    ${
      reviewed > 0 &&
      html`<p class="chart-key">
        <span><svg viewBox="0 0 14 14" class="chart-key-shape tone-pass" aria-hidden="true"><circle cx="7" cy="7" r="5" /></svg> ${t("product.people_ok")}</span>
        <span><svg viewBox="0 0 14 14" class="chart-key-shape tone-fail" aria-hidden="true"><path d="M2 2l10 10M12 2L2 12" /></svg> ${t("product.people_defect")}</span>
      </p>
      <p><strong>${t("product.disagreement", { missed, alarms, reviewed })}</strong></p>`
    }
  </div>`;
}

/** @param {{effect: any}} props */
function EffectNote({ effect }) {
  if (!effect) return html`<p>${t("product.reading")}</p>`;
  return html`<p class="effect-text">${effectText(effect)}</p>
    ${effect && html`<${Examples} ids=${effect.examples} />`}`;
}

/** @param {any} effect of other thresholds, in a sentence */
export function effectText(effect) {
  if (!effect) return "";
  if (effect.compared === 0) return t("product.effect_unknown");
  if (effect.changed === 0) return t("product.effect_none", { compared: effect.compared });
  const moves = effect.changes
    .map((/** @type {any} */ one) =>
      t("product.moves", { n: one.count, before: t(`verdict.${one.before}`), after: t(`verdict.${one.after}`) }),
    )
    .join(", ");
  return `${t("product.effect", { n: effect.changed, compared: effect.compared, moves })}${expectedText(effect)}.`;
}

/** @param {number[]} numbers */
function sum(numbers) {
  return numbers.reduce((one, other) => one + other, 0);
}
