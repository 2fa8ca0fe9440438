/**
 * The focus stays near where it was when the element that has it goes away or is switched off: a button whose change is
 * made, a row that is removed, a page that is left. Who works by keyboard, or hears the page, goes on from there.
 */

/** The element that had the focus last; null: it was left on purpose. @type {HTMLElement | SVGElement | null} */
let last = null;
/** Its ancestors, the nearest first: a removed element no longer knows them. @type {Element[]} */
let around = [];
/** The id of what was lost with its page, until the next page is drawn; "": nothing. */
let wanted = "";

/** Watch the document from now on. */
export function keepFocus() {
  document.addEventListener("focusin", ({ target }) => {
    last = /** @type {HTMLElement} */ (target);
    around = ancestorsOf(last);
    if (!last.matches("main")) wanted = "";
  });
  document.addEventListener("focusout", ({ target, relatedTarget }) => {
    if (relatedTarget === null) queueMicrotask(() => forget(target));
  });
  const options = { childList: true, subtree: true, attributes: true, attributeFilter: ["disabled"] };
  new MutationObserver(restore).observe(document.body, options);
}

/** Put the focus on the heading: behind what stands on every page. */
export function focusHeading() {
  const heading = document.querySelector("main h1") ?? document.querySelector("main");
  if (heading) focusPlace(/** @type {HTMLElement} */ (heading));
}

/** As `ref` of an element: it gets the focus when it appears. @param {HTMLElement | null} element */
export function takeFocus(element) {
  element?.focus({ preventScroll: true });
}

/** @param {EventTarget | null} target of which the focus was taken, also by its removal */
function forget(target) {
  if (target !== last || !last || isGone(last)) return;
  last = null;
  around = [];
}

/** @param {HTMLElement | SVGElement} element */
function isGone(element) {
  return !element.isConnected || ("disabled" in element && element.disabled === true);
}

/** Put a focus that was lost on the element of the same name, on what stood around, or on the heading. */
function restore() {
  if (!last || !isGone(last)) return;
  const isElsewhere = document.activeElement !== document.body && document.activeElement !== last;
  const name = last.id || wanted;
  const same = name ? document.getElementById(name) : null;
  const place = same && !isGone(same) ? same : around.find(isPlace);
  last = null;
  if (isElsewhere) return;
  if (place) focusPlace(/** @type {HTMLElement} */ (place));
  else focusHeading();
  if (document.activeElement?.matches("main")) wanted = name;
}

/** Whether an element is a part of the page that is seen; cells and rows alone mean nothing. @param {Element} element */
function isPlace(element) {
  if (!element.isConnected || !element.closest("main, header, dialog") || element.matches("main, svg, svg *"))
    return false;
  return !element.matches("tbody, thead, tr, td, th") && element.getBoundingClientRect().height > 0;
}

/** Focus an element that cannot have it by itself, as long as it has it. @param {HTMLElement} element */
function focusPlace(element) {
  if (element.tabIndex < 0 && !element.hasAttribute("tabindex")) {
    element.tabIndex = -1;
    element.addEventListener("blur", () => element.removeAttribute("tabindex"), { once: true });
  }
  element.focus({ preventScroll: true });
}

/** @param {Element} element @returns {Element[]} below the body, the nearest first */
function ancestorsOf(element) {
  const parent = element.parentElement;
  return parent === null || parent === document.body ? [] : [parent, ...ancestorsOf(parent)];
}
