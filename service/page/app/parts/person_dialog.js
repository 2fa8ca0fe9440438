/** Asks who decides: a name or the number of a badge. */
import { html, useState } from "../lib/html.js";
import { t } from "../lib/texts.js";
import { Dialog, showDialog } from "./dialog.js";
import { ProblemNote } from "./problem.js";

/**
 * @param {(person: string) => Promise<unknown>} keep signs in by that name; if it fails the dialog says why, and stays
 * @returns {Promise<string | null>} the name that was kept; null if they did not say
 */
export function askForPerson(keep) {
  return showDialog((answer) => html`<${PersonDialog} keep=${keep} onAnswer=${answer} />`);
}

/** @param {{keep: (person: string) => Promise<unknown>, onAnswer: (person: string | null) => void}} props */
function PersonDialog({ keep, onAnswer }) {
  const [error, setError] = useState(/** @type {unknown} */ (null));
  /** @param {SubmitEvent} event */
  const accept = async (event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.currentTarget);
    const name = String(new FormData(form).get("person") ?? "").trim();
    if (!name) return;
    setError(null);
    try {
      await keep(name);
      onAnswer(name);
    } catch (problem) {
      setError(problem);
    }
  };
  return html`<${Dialog} title=${t("person.title")} onClose=${() => onAnswer(null)}>
    <form onSubmit=${accept}>
      <p class="dialog-text">${t("person.text")}</p>
      <label class="field">${t("person.name")}<input name="person" required maxlength="100" autofocus autocomplete="off" /></label>
      ${Boolean(error) && html`<${ProblemNote} error=${error} />`}
      <div class="actions">
        <button type="button" onClick=${() => onAnswer(null)}>${t("common.cancel")}</button>
        <button type="submit" class="primary">${t("person.accept")}</button>
      </div>
    </form>
  <//>`;
}
