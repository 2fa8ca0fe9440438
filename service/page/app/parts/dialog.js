/** Dialogs: the browser's own, which keeps the focus inside and closes with Esc. */
import { html, render, useLayoutEffect, useRef } from "../lib/html.js";
import { t } from "../lib/texts.js";

/** @param {{title: string, onClose: () => void, children?: any}} props */
export function Dialog({ title, onClose, children }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  // Before the next key arrives: it must not go to what lies behind.
  useLayoutEffect(() => {
    element.current?.showModal();
  }, []);
  return html`<dialog ref=${element} onClose=${onClose} aria-label=${title}>
    <h2>${title}</h2>
    ${children}
  </dialog>`;
}

/**
 * Show a dialog outside of the page's tree until it is answered.
 * @template T
 * @param {(answer: (value: T) => void) => any} draw
 * @returns {Promise<T>}
 */
export function showDialog(draw) {
  const before = /** @type {HTMLElement | null} */ (document.activeElement);
  const host = document.body.appendChild(document.createElement("div"));
  return new Promise((resolve) => {
    /** @param {T} value */
    const answer = (value) => {
      render(null, host);
      host.remove();
      before?.focus();
      resolve(value);
    };
    render(draw(answer), host);
  });
}

/**
 * Ask whether a change is to be made; every change that matters is asked for.
 * @param {{title: string, text?: any, action: string, isDangerous?: boolean}} question `action`: what the button says
 * @returns {Promise<boolean>}
 */
export function confirmChange({ title, text, action, isDangerous = false }) {
  return showDialog((answer) => {
    /** @param {Event} event */
    const accept = (event) => {
      event.preventDefault();
      answer(true);
    };
    return html`<${Dialog} title=${title} onClose=${() => answer(false)}>
      <form onSubmit=${accept}>
        ${text && html`<div class="dialog-text">${text}</div>`}
        <div class="actions">
          <button type="button" onClick=${() => answer(false)}>${t("common.cancel")}</button>
          <button type="submit" class=${isDangerous ? "primary danger" : "primary"} autofocus>${action}</button>
        </div>
      </form>
    <//>`;
  });
}
