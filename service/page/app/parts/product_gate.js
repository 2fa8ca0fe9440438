/** The quality gate: a switch, and each limit beside what was measured. */
import { api } from "../lib/api.js";
import { html, useState } from "../lib/html.js";
import { expectedText, formatValue } from "../lib/limits.js";
import { useLoaded } from "../lib/reading.js";
import { hasScope } from "../lib/session.js";
import { formatDate, t } from "../lib/texts.js";
import { Examples } from "./examples.js";
import { LimitChart } from "./limit_chart.js";
import { LimitInput } from "./limit_input.js";
import { ProblemNote } from "./problem.js";
import { changeProduct, isOutdated, productPath, refusalText, usePreview } from "./product_data.js";

/** @typedef {"darkest" | "brightest" | "black_share" | "white_share" | "sharpness" | "likeness"} LimitName */
/** @typedef {Record<LimitName, number>} GateLimits */

/** Each limit: its measure, whether it is a least or a largest value, the value that asks nothing, and the axis. */
const LIMITS = /** @type {Record<LimitName, {measure: string, isLeast: boolean, off: number}>} */ ({
  darkest: { measure: "brightness", isLeast: true, off: 0 },
  brightest: { measure: "brightness", isLeast: false, off: 255 },
  black_share: { measure: "black_share", isLeast: false, off: 1 },
  white_share: { measure: "white_share", isLeast: false, off: 1 },
  sharpness: { measure: "sharpness", isLeast: true, off: 0 },
  likeness: { measure: "likeness", isLeast: true, off: 0 },
});
const NAMES = /** @type {LimitName[]} */ (Object.keys(LIMITS));
const MEASURES = ["brightness", "black_share", "white_share", "sharpness", "likeness"];

/** @param {any} limits of an answer: a likeness that is not asked is null there @returns {GateLimits} */
function asNumbers(limits) {
  return /** @type {any} */ (Object.fromEntries(NAMES.map((one) => [one, limits[one] ?? LIMITS[one].off])));
}

/** @param {{product: any, version: any, onChanged: () => void}} props */
export function Gate({ product, version, onChanged }) {
  const path = productPath(product.product, "/gate");
  const key = `${product.product} ${version.version} ${product.revision}`;
  const gate = useLoaded(key, () => api.get(path, { version: version.version }));
  const [refused, setRefused] = useState(/** @type {unknown} */ (null));
  const mayChange = hasScope("admin");
  /** @param {Parameters<typeof changeProduct>[0]} change */
  const make = async (change) => {
    setRefused(null);
    try {
      if (await changeProduct(change)) onChanged();
    } catch (error) {
      setRefused(error);
      if (isOutdated(error)) onChanged();
    }
  };
  const toggle = (/** @type {boolean} */ on) =>
    make({
      question: {
        title: t(on ? "product.gate_switch_on" : "product.gate_switch_off"),
        text: t(on ? "product.gate_on_text" : "product.gate_off_text"),
        action: t(on ? "product.gate_switch_on" : "product.gate_switch_off"),
      },
      method: "PUT",
      path,
      body: { on },
      revision: product.revision,
    });
  const shown = gate.data;
  return html`<section class="card product-section" aria-labelledby="gate">
    <h2 id="gate">${t("product.gate")}</h2>
    <p>${t("product.gate_text")}</p>
    ${gate.error && html`<${ProblemNote} error=${gate.error} onRetry=${gate.reload} />`}
    ${!shown && !gate.error && html`<div class="chart-waiting" aria-busy="true">${t("product.reading")}</div>`}
    ${
      shown &&
      !shown.limits &&
      html`<p>${t("product.gate_none")}</p><p><code>glad gate BUNDLE --data DIR --version NEW</code></p>`
    }
    ${
      shown?.limits &&
      html`<p class="gate-switch">
          <strong>${t(shown.on ? "product.gate_is_on" : "product.gate_is_off")}</strong>
          ${mayChange && html`<button type="button" onClick=${() => toggle(!shown.on)}>${t(shown.on ? "product.gate_switch_off" : "product.gate_switch_on")}</button>`}
        </p>
        <${GateLimitsForm} key=${key} product=${product} version=${version} gate=${shown} make=${make} mayChange=${mayChange} path=${path} />`
    }
    ${refused && html`<p class="note note-problem" role="alert">${refusalText(refused)}</p>`}
  </section>`;
}

/** @param {{product: any, version: any, gate: any, make: (change: Parameters<typeof changeProduct>[0]) => void, mayChange: boolean, path: string}} props */
function GateLimitsForm({ product, version, gate, make, mayChange, path }) {
  const inForce = asNumbers(gate.limits);
  const learned = asNumbers(gate.learned);
  const [moved, setMoved] = useState(/** @type {Partial<GateLimits>} */ ({}));
  const limits = { ...inForce, ...moved };
  const changes = Object.fromEntries(
    NAMES.filter((one) => limits[one] !== inForce[one]).map((one) => [one, limits[one]]),
  );
  const isChanged = Object.keys(changes).length > 0;
  const isOverridden = NAMES.some((one) => inForce[one] !== learned[one]);
  const preview = usePreview(path, isChanged && mayChange ? { limits: changes, version: version.version } : null);
  const effect = preview.data?.effect;
  /** @param {string} name @param {number} value */
  const move = (name, value) => setMoved({ ...moved, [name]: value });
  /** @param {Record<string, number | null>} values @param {string} title @param {any} text */
  const send = (values, title, text) =>
    make({
      question: { title, text, action: t("product.apply") },
      method: "PATCH",
      path: `${path}?last=0`,
      body: { limits: values, version: version.version },
      revision: product.revision,
    });
  /** @param {GateLimits} target @param {LimitName[]} names */
  const listed = (target, names) =>
    names.map(
      (one) =>
        html`<p key=${one}>${t(`product.limit_${one}`)}: ${limitText(one, inForce[one])} → <strong>${limitText(one, target[one])}</strong></p>`,
    );
  const apply = () =>
    send(
      changes,
      t("product.apply_gate", { version: version.version }),
      html`${listed(
        limits,
        NAMES.filter((one) => one in changes),
      )}<p>${gateEffectText(effect)}</p>`,
    );
  const reset = () =>
    send(
      Object.fromEntries(NAMES.map((one) => [one, null])),
      t("product.reset_gate", { version: version.version }),
      html`${listed(
        learned,
        NAMES.filter((one) => inForce[one] !== learned[one]),
      )}`,
    );
  return html`<p class="hint">
      ${gate.compared ? t("product.gate_of", { n: gate.compared, since: formatDate(gate.oldest) }) : t("product.gate_nothing")}
    </p>
    <div class="measures">
      ${MEASURES.map(
        (measure) =>
          html`<${Measure}
            key=${measure}
            measure=${measure}
            found=${gate.measures.find((/** @type {any} */ one) => one.name === measure)}
            limits=${limits}
            inForce=${inForce}
            learned=${learned}
            onMove=${mayChange ? move : null}
          />`,
      )}
    </div>
    ${preview.error && html`<${ProblemNote} error=${preview.error} />`}
    <div class="effect" aria-live="polite" data-pending=${preview.isPending}>
      ${
        isChanged
          ? html`<p class="effect-text">${effect ? gateEffectText(effect) : t("product.reading")}</p>
              ${effect && html`<${Examples} ids=${effect.examples} />`}`
          : html`<p class="hint">${t("product.not_moved")}</p>`
      }
    </div>
    ${
      mayChange &&
      html`<div class="actions">
        <button type="button" disabled=${!isOverridden} onClick=${reset}>${t("product.to_learned")}</button>
        <button type="button" disabled=${!isChanged} onClick=${() => setMoved({})}>${t("product.discard")}</button>
        <button type="button" class="primary" disabled=${!isChanged || !preview.data} onClick=${apply}>${t("product.apply_limits")}</button>
      </div>`
    }`;
}

/** @param {{measure: string, found: any, limits: GateLimits, inForce: GateLimits, learned: GateLimits, onMove: ((name: string, value: number) => void) | null}} props */
function Measure({ measure, found, limits, inForce, learned, onMove }) {
  const names = NAMES.filter((one) => LIMITS[one].measure === measure);
  const asked = names.filter((one) => limits[one] !== LIMITS[one].off);
  /** @param {number} value */
  const toneOf = (value) =>
    asked.some((one) => (LIMITS[one].isLeast ? value < limits[one] : value > limits[one])) ? "review" : "pass";
  const hasChart = found && found.bins.length > 0 && found.high > found.low;
  return html`<div class="measure">
    <h3>${t(`product.measure_${measure}`)}</h3>
    <p class="hint measure-text">${t(`product.measure_${measure}_text`)}</p>
    ${
      hasChart &&
      html`<${LimitChart}
        title=${t(`product.measure_${measure}`)}
        low=${found.low}
        high=${found.high}
        height=${90}
        bars=${found.bins.map((/** @type {any} */ one) => ({ from: one.from, to: one.to, count: one.passed + one.stopped }))}
        toneOf=${toneOf}
        lines=${asked.map((one) => ({ name: one, title: t(`product.limit_${one}`), label: t(LIMITS[one].isLeast ? "product.at_least" : "product.at_most"), tone: "review", value: limits[one], inForce: inForce[one] }))}
        onMove=${onMove}
      />`
    }
    ${names.map((one) => html`<${LimitField} key=${one} name=${one} value=${limits[one]} learned=${learned[one]} onMove=${onMove} />`)}
  </div>`;
}

/** @param {{name: LimitName, value: number, learned: number, onMove: ((name: string, value: number) => void) | null}} props */
function LimitField({ name, value, learned, onMove }) {
  const { off, isLeast } = LIMITS[name];
  const isAsked = value !== off;
  return html`<div class="limit-field">
    <label class="check">
      <input
        type="checkbox"
        checked=${isAsked}
        disabled=${!onMove}
        onChange=${() => onMove?.(name, isAsked ? off : learned === off ? fallback(name) : learned)}
      />
      ${t(`product.limit_${name}`)}
    </label>
    <${LimitInput}
      value=${isAsked ? value : null}
      isDisabled=${!onMove || !isAsked}
      label=${`${t(`product.limit_${name}`)}, ${t(isLeast ? "product.at_least" : "product.at_most")}`}
      onMove=${(/** @type {number} */ typed) => onMove?.(name, typed)}
    />
    <span class="hint">${t("product.learned_value", { value: limitText(name, learned) })}</span>
  </div>`;
}

/** Return a limit to begin with where good images set none. @param {LimitName} name */
function fallback(name) {
  return name === "likeness" ? 0.5 : LIMITS[name].isLeast ? 0.01 : 0.5;
}

/** @param {LimitName} name @param {number} value */
export function limitText(name, value) {
  return value === LIMITS[name].off ? t("product.not_asked") : formatValue(value);
}

/** @param {any} effect */
function gateEffectText(effect) {
  if (!effect) return "";
  if (effect.compared === 0) return t("product.gate_effect_unknown");
  if (effect.changed === 0) return t("product.gate_effect_none", { compared: effect.compared });
  return `${t("product.gate_effect", { compared: effect.compared, stopped: effect.newly_stopped, inspected: effect.newly_inspected })}${expectedText(effect)}.`;
}
