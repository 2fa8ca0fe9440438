/** Asks who decides: a name or the number of a badge. */
import { html } from "../lib/html.js";
import { t } from "../lib/texts.js";
import { Dialog, showDialog } from "./dialog.js";

/** @returns {Promise<string | null>} the name; null if they did not say */
export function askForPerson() {
  return showDialog((answer) => {
    /** @param {SubmitEvent} event */
    const accept = (event) => {
      event.preventDefault();
      const form = /** @type {HTMLFormElement} */ (event.currentTarget);
      const name = String(new FormData(form).get("person") ?? "").trim();
      if (name) answer(name);
    };
    return html`<${Dialog} title=${t("person.title")} onClose=${() => answer(null)}>
      <form onSubmit=${accept}>
        <p class="dialog-text">${t("person.text")}</p>
        <label class="field">${t("person.name")}<input name="person" required maxlength="100" autofocus autocomplete="off" /></label>
        <div class="actions">
          <button type="button" onClick=${() => answer(null)}>${t("common.cancel")}</button>
          <button type="submit" class="primary">${t("person.accept")}</button>
        </div>
      </form>
    <//>`;
  });
}
