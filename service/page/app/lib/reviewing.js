/** A person's way through the queue: the image to decide, decisions made so far, and the way back. */
import { Claims } from "./claims.js";
import { decisions } from "./decisions.js";
import { useEffect, useMemo, useState } from "./html.js";
import { useStore } from "./store.js";

/** How many decisions can be taken back by U. */
const KEPT = 50;
/** How many decisions before the last one are shown. */
const SHOWN = 4;
const COUNTED = "glad.decided";

/**
 * A decision that was made here. `verdict`: the model's, once the service has answered; of a blind one it stays hidden.
 * @typedef {object} Made
 * @property {import("./claims.js").Task} task
 * @property {import("./decisions.js").Operation} operation
 * @property {import("./claims.js").Draft} draft
 * @property {string | null} code title of the defect code
 * @property {boolean} answered
 * @property {import("./claims.js").VerdictName | null} verdict
 */

/**
 * What the last key did: a decision, one that was taken back, or nothing yet.
 * @typedef {{kind: "made" | "undone" | "none", made: Made | null}} Last
 */

/** Return how people call the image: the part's serial, or the end of its id. @param {import("./claims.js").Inspection} inspection */
export function titleOf(inspection) {
  return inspection.serial ?? `…${inspection.id.slice(-8)}`;
}

/**
 * @param {{product?: string, station?: string}} filter
 * @param {string} person
 */
export function useReviewing(filter, person) {
  const { product, station } = filter;
  const claims = useMemo(() => new Claims({ product, station }), [product, station]);
  const view = useStore(claims.view);
  const sending = useStore(decisions.view);
  const [made, setMade] = useState(/** @type {readonly Made[]} */ ([]));
  const [last, setLast] = useState(/** @type {"made" | "undone" | "none"} */ ("none"));
  const [today, setToday] = useState(() => countToday(person, 0));
  const [undone, setUndone] = useState(/** @type {Made | null} */ (null));

  useEffect(() => {
    claims.start();
    return () => claims.stop();
  }, [claims]);
  useEffect(() => {
    /** @type {Parameters<typeof decisions.listeners.add>[0]} */
    const listen = (operation, result, again) => {
      const verdict = result?.verdict ?? null;
      const isOther = (/** @type {Made} */ one) => one.operation !== operation;
      if (result) setMade((all) => all.map((one) => (isOther(one) ? one : { ...one, answered: true, verdict })));
      else setMade((all) => all.filter(isOther)); // refused: there is nothing to take back
      if (again) claims.claimedAgain(again);
    };
    decisions.listeners.add(listen);
    decisions.start();
    return () => {
      decisions.listeners.delete(listen);
    };
  }, [claims]);

  /**
   * @param {"ok" | "defect"} decision
   * @param {import("./claims.js").Draft} draft
   * @param {{code: string, title: string} | null} defect
   */
  const decide = (decision, draft, defect) => {
    const task = view.tasks[0];
    if (!task) return;
    const body = {
      decision,
      by: person,
      note: draft.note.trim() || null,
      defect_code: defect?.code ?? null,
      regions: decision === "defect" ? draft.regions : null,
      claim: task.claim || undefined,
    };
    claims.decided(task);
    const operation = decisions.decide(task, titleOf(task.inspection), body);
    const entry = { task, operation, draft, code: defect?.title ?? null, answered: false, verdict: null };
    setMade((all) => [entry, ...all].slice(0, KEPT));
    setLast("made");
    setToday(countToday(person, 1));
  };
  const undo = () => {
    const entry = made[0];
    if (!entry) return;
    const isUnsent = decisions.undo(entry.operation);
    claims.again(isUnsent ? entry.task : { ...entry.task, claim: "" }, entry.draft);
    setMade((all) => all.slice(1));
    setUndone(entry);
    setToday(countToday(person, -1));
    setLast("undone");
  };
  const skip = () => {
    if (view.tasks[0]) claims.skip(view.tasks[0]);
    setLast("none");
  };
  return {
    task: view.tasks[0] ?? null,
    view,
    sending,
    last: /** @type {Last} */ ({ kind: last, made: last === "undone" ? undone : (made[0] ?? null) }),
    today,
    earlier: made.slice(last === "made" ? 1 : 0).slice(0, SHOWN),
    canUndo: made.length > 0,
    decide,
    undo,
    skip,
    showSkipped: () => claims.showSkipped(),
  };
}

/**
 * Change how many decisions a person made today in this browser, and return the number.
 * @param {string} person
 * @param {number} change
 */
function countToday(person, change) {
  const day = new Date().toDateString();
  const stored = JSON.parse(localStorage.getItem(COUNTED) ?? "{}");
  const n = (stored.day === day && stored.person === person ? stored.n : 0) + change;
  localStorage.setItem(COUNTED, JSON.stringify({ day, person, n }));
  return n;
}
