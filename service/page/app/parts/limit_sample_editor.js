/** Editing which serials stand for known good and known bad parts. */
import { takeFocus } from "../lib/focus.js";
import { html, useState } from "../lib/html.js";
import { t } from "../lib/texts.js";

/** @typedef {import("../pages/limit_samples.js").Sample} Sample */

let lastRow = 0;

/**
 * @param {Sample} sample
 * @returns {Sample & {row: number}} with a number that stays while the serial is typed
 */
function asRow(sample) {
  lastRow += 1;
  return { ...sample, row: lastRow };
}

/** @returns {Sample} */
function empty() {
  return { serial: "", expected: "bad", note: null };
}

/**
 * @param {{samples: Sample[], onSave: (samples: Sample[]) => void, onClose: () => void}} props
 */
export function LimitSampleEditor({ samples, onSave, onClose }) {
  const [rows, setRows] = useState(() => (samples.length ? samples : [empty()]).map(asRow));
  const [newest, setNewest] = useState(() => rows[0].row);
  const add = () => {
    const row = asRow(empty());
    setRows([...rows, row]);
    setNewest(row.row);
  };
  /**
   * @param {number} row
   * @param {Partial<Sample>} change
   */
  const edit = (row, change) => setRows(rows.map((one) => (one.row === row ? { ...one, ...change } : one)));
  /** @param {SubmitEvent} event */
  const accept = (event) => {
    event.preventDefault();
    onSave(rows.map(({ serial, expected, note }) => ({ serial: serial.trim(), expected, note: note?.trim() || null })));
  };
  return html`<form class="card" aria-labelledby="limit-editor" onSubmit=${accept}>
    <h2 id="limit-editor">${t("limit_samples.samples")}</h2>
    <p class="hint">${t("limit_samples.explained")}</p>
    <table class="limit-edit">
      <thead>
        <tr>
          <th>${t("limit_samples.serial")}</th>
          <th>${t("limit_samples.expected")}</th>
          <th>${t("limit_samples.note")}</th>
          <td></td>
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (one) => html`<${Row}
            key=${one.row}
            sample=${one}
            isNewest=${one.row === newest}
            onEdit=${(/** @type {Partial<Sample>} */ change) => edit(one.row, change)}
            onRemove=${() => setRows(rows.filter((other) => other.row !== one.row))}
          />`,
        )}
      </tbody>
    </table>
    <div class="actions">
      <button type="button" onClick=${add}>${t("limit_samples.add")}</button>
      <button type="button" onClick=${onClose}>${t("common.cancel")}</button>
      <button type="submit" class="primary">${t("limit_samples.save")}</button>
    </div>
  </form>`;
}

/**
 * @param {{sample: Sample, isNewest: boolean, onEdit: (change: Partial<Sample>) => void, onRemove: () => void}} props
 *   `isNewest`: it gets the focus when it appears
 */
function Row({ sample, isNewest, onEdit, onRemove }) {
  /** @param {Event} event */
  const value = (event) => /** @type {HTMLInputElement | HTMLSelectElement} */ (event.currentTarget).value;
  return html`<tr>
    <td>
      <input
        ref=${isNewest ? takeFocus : undefined}
        aria-label=${t("limit_samples.serial")}
        required
        maxlength="128"
        autocomplete="off"
        value=${sample.serial}
        onInput=${(/** @type {Event} */ event) => onEdit({ serial: value(event) })}
      />
    </td>
    <td>
      <select
        aria-label=${t("limit_samples.expected")}
        value=${sample.expected}
        onChange=${(/** @type {Event} */ event) => onEdit({ expected: value(event) === "good" ? "good" : "bad" })}
      >
        <option value="good">${t("limit_samples.good")}</option>
        <option value="bad">${t("limit_samples.bad")}</option>
      </select>
    </td>
    <td>
      <input
        aria-label=${t("limit_samples.note")}
        maxlength="1000"
        autocomplete="off"
        value=${sample.note ?? ""}
        onInput=${(/** @type {Event} */ event) => onEdit({ note: value(event) })}
      />
    </td>
    <td>
      <button type="button" aria-label=${t("limit_samples.remove_one", { serial: sample.serial })} onClick=${onRemove}>
        ${t("limit_samples.remove")}
      </button>
    </td>
  </tr>`;
}
