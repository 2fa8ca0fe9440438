/**
 * The review desk: one image, two keys.
 *
 * O: ok. D, then the defect's own key: defect; where a product has no list of defects D alone. U: the last decision is
 * taken back, its image is shown again. N: a note. R: draw or correct regions. S: skip. H: the picture without heat and
 * marks.
 */
import { api, Problem } from "../lib/api.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { useKeys } from "../lib/keys.js";
import { titleOf, useReviewing } from "../lib/reviewing.js";
import { t } from "../lib/texts.js";
import { ProblemNote } from "./problem.js";
import { LastDecision, Sending } from "./review_answers.js";
import { Counter } from "./review_counter.js";
import { Facts } from "./review_facts.js";
import { ReviewPicture } from "./review_picture.js";

/** @typedef {import("../lib/claims.js").Task} Task */
/** @typedef {import("../lib/claims.js").Draft} Draft */
/** @typedef {{code: string, title: string, key: string | null}} DefectKind */

/** After how long the kinds of defects are asked for again, if they could not be read. */
const AGAIN_MS = 1000;
/** @type {Draft} */
const NO_DRAFT = { note: "", regions: null };

/** @param {{filter: {product?: string, station?: string}, person: string}} props */
export function ReviewDesk({ filter, person }) {
  const reviewing = useReviewing(filter, person);
  const { task, view, last } = reviewing;
  const { kinds, problem } = useDefectKinds(view.tasks.map((one) => one.inspection.product));
  return html`<div class="review-desk">
    <div class="review-status">
      <${Counter} filter=${filter} today=${reviewing.today} />
      <${Sending} sending=${reviewing.sending} />
      ${view.lost && html`<p class="note" role="status">${t("review.lost")}</p>`}
      ${Boolean(view.problem ?? problem) && html`<${ProblemNote} error=${view.problem ?? problem} />`}
    </div>
    ${
      task && kinds
        ? html`<${OpenImage} key=${task.shown} task=${task} kinds=${kinds} reviewing=${reviewing} />`
        : html`<${NoImage} isBusy=${Boolean(task) || !view.empty} reviewing=${reviewing} />`
    }
    <${LastDecision} last=${last} earlier=${reviewing.earlier} onUndo=${reviewing.canUndo ? reviewing.undo : null} />
  </div>`;
}

/** @param {{isBusy: boolean, reviewing: ReturnType<typeof useReviewing>}} props */
function NoImage({ isBusy, reviewing }) {
  const { view, canUndo, undo, showSkipped } = reviewing;
  useKeys({ u: once(undo) }, { enabled: canUndo });
  if (isBusy) return html`<div class="review-nothing" aria-busy=${!view.problem}></div>`;
  return html`<div class="review-nothing">
    <h2>${view.skipped ? t("review.only_skipped", { n: view.skipped }) : t("review.nothing")}</h2>
    <p>${t("review.nothing_text")}</p>
    ${view.skipped > 0 && html`<button type="button" onClick=${showSkipped}>${t("review.show_skipped")}</button>`}
  </div>`;
}

/** @param {{task: Task, kinds: DefectKind[], reviewing: ReturnType<typeof useReviewing>}} props */
function OpenImage({ task, kinds, reviewing }) {
  const [draft, setDraft] = useState(task.draft ?? NO_DRAFT);
  const [isChoosing, setChoosing] = useState(false);
  const [isDrawing, setDrawing] = useState(false);
  const note = useRef(/** @type {HTMLInputElement | null} */ (null));
  const { decide, undo, skip, canUndo } = reviewing;

  const ok = () => decide("ok", draft, null);
  /** @param {DefectKind | null} kind */
  const defect = (kind) => decide("defect", draft, kind);
  const chooseDefect = () => (kinds.length === 0 || isChoosing ? defect(null) : setChoosing(true));
  const draw = () => setDrawing(!isDrawing);
  const back = () => {
    setChoosing(false);
    setDrawing(false);
  };
  const keys = {
    o: ok,
    d: chooseDefect,
    r: draw,
    s: skip,
    n: () => note.current?.focus(),
    Escape: back,
    u: () => canUndo && undo(),
  };
  const kindKeys = Object.fromEntries(kinds.map((kind) => [kind.key ?? "", () => defect(kind)]));
  useKeys(mapValues(isChoosing ? { ...keys, ...kindKeys } : keys, once));

  return html`<div class="review-image">
      <${ReviewPicture} task=${task} regions=${draft.regions} isDrawing=${isDrawing} isChoosing=${isChoosing}
        onChange=${(/** @type {Draft["regions"]} */ regions) => setDraft({ ...draft, regions })}>
        <button type="button" aria-pressed=${isDrawing} onClick=${draw}>
          ${isDrawing ? t("review.drawn") : t("review.draw")} <kbd>R</kbd>
        </button>
        <button type="button" onClick=${skip}>${t("review.skip")} <kbd>S</kbd></button>
      <//>
    </div>
    <aside class="review-side" aria-label=${t("review.image", { title: titleOf(task.inspection) })}>
      <${Facts} task=${task} />
      <label class="review-note">${t("review.note")} <kbd>N</kbd>
        <input ref=${note} maxlength="1000" value=${draft.note} onKeyDown=${leaveOnEnter}
          onInput=${(/** @type {any} */ event) => setDraft({ ...draft, note: event.currentTarget.value })} />
      </label>
      <div class="review-decide">
        ${isChoosing && html`<${Kinds} kinds=${kinds} onChoose=${defect} onBack=${back} />`}
        <button type="button" class="review-ok" onClick=${ok}>${t("review.ok")} <kbd>O</kbd></button>
        <button type="button" class="review-defect" aria-expanded=${kinds.length ? isChoosing : undefined}
          onClick=${chooseDefect}>
          ${isChoosing ? t("review.no_code") : t("review.defect")} <kbd>D</kbd>
        </button>
      </div>
    </aside>`;
}

/** @param {{kinds: DefectKind[], onChoose: (kind: DefectKind) => void, onBack: () => void}} props */
function Kinds({ kinds, onChoose, onBack }) {
  return html`<div class="review-kinds" role="group" aria-label=${t("review.which")}>
    <h3>${t("review.which")}</h3>
    ${kinds.map(
      (kind) => html`<button key=${kind.code} type="button" onClick=${() => onChoose(kind)}>
      ${kind.title} ${kind.key && html`<kbd>${kind.key.toUpperCase()}</kbd>`}
    </button>`,
    )}
    <button type="button" class="review-back" onClick=${onBack}>${t("common.cancel")} <kbd>Esc</kbd></button>
  </div>`;
}

/** @param {KeyboardEvent} event */
function leaveOnEnter(event) {
  if (event.key === "Enter" || event.key === "Escape") /** @type {HTMLElement} */ (event.currentTarget).blur();
}

/**
 * Return what a key does when it goes down, and not again while it is held: that would decide image after image.
 * @param {() => unknown} action
 */
function once(action) {
  return (/** @type {KeyboardEvent} */ event) => {
    if (!event.repeat) action();
  };
}

/**
 * @param {Record<string, () => unknown>} values
 * @param {(action: () => unknown) => (event: KeyboardEvent) => void} change
 */
function mapValues(values, change) {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, change(value)]));
}

/**
 * Return the kinds of defects of the first product, null until they are known, and why they could not be read.
 *
 * Before they are known no image is shown: the key of a defect could mean something else. Those of the next product are
 * fetched with it.
 * @param {string[]} products of the claimed images
 * @returns {{kinds: DefectKind[] | null, problem: unknown}}
 */
function useDefectKinds(products) {
  const [known, setKnown] = useState(/** @type {ReadonlyMap<string, DefectKind[]>} */ (new Map()));
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const [attempts, setAttempts] = useState(0);
  const wanted = [...new Set(products)].filter((name) => !known.has(name)).join(" ");
  useEffect(() => {
    if (!wanted) return undefined;
    let isOver = false;
    let timer = 0;
    readKinds(wanted.split(" ")).then(
      (found) => {
        setKnown((all) => new Map([...all, ...found]));
        setProblem(null);
      },
      (error) => {
        setProblem(error);
        if (!isOver) timer = setTimeout(() => setAttempts(attempts + 1), AGAIN_MS);
      },
    );
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [wanted, attempts]);
  const [first] = products;
  return { kinds: (first && known.get(first)) || null, problem: wanted ? problem : null };
}

/**
 * Read the products' kinds of defects; a product that the service no longer knows has none.
 * @param {string[]} products
 * @returns {Promise<[string, DefectKind[]][]>}
 */
function readKinds(products) {
  return Promise.all(
    products.map(async (product) => {
      try {
        return [product, (await api.get(`/v1/products/${product}/review-plan`)).defect_codes];
      } catch (error) {
        if (!(error instanceof Problem && error.status === 404)) throw error;
        return [product, []];
      }
    }),
  );
}
