/**
 * Decisions on their way to the service, in the order in which they were made.
 *
 * Each is kept in the browser until the service has answered, also over a reload or a loss of the network. It is
 * recorded once: a claim has one answer, however often that is sent.
 */

import { api, Problem } from "./api.js";
import { askForImage, desk } from "./desk.js";
import { createStore } from "./store.js";
import { t } from "./texts.js";

const STORED = "glad.decisions.";
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;
/** A list that no tab has touched for so long belongs to one that was closed. */
const ABANDONED_MS = 5 * 60_000;
/** How often this tab says that it is there, and looks for such lists. */
const LOOK_MS = 60_000;

/**
 * What a person decided, as `POST /v1/inspections/{id}/review` takes it.
 * @typedef {{
 *   decision: "ok" | "defect", by: string, note?: string | null, defect_code?: string | null,
 *   regions?: import("./rectangles.js").Box[] | null, claim?: string,
 * }} ReviewBody
 */

/**
 * A decision, or the withdrawal of one (`body` null). `task`: what the image was given for; `sent`: it may have reached
 * the service.
 * @typedef {{
 *   inspection: string, task: TaskName, title: string, by: string, body: ReviewBody | null, sent: boolean,
 * }} Operation
 */

/**
 * What is on its way, and what the service refused. `offline`: the last attempt found no service.
 * @typedef {{waiting: readonly Operation[], refused: readonly Refusal[], offline: boolean}} DecisionsView
 */

/** @typedef {{operation: Operation, why: string, type?: string}} Refusal */

/** What a tab keeps in the browser, and when it did so last. @typedef {{at: number, waiting: Operation[], refused: Refusal[]}} StoredList */

/** @typedef {import("./claims.js").Inspection} Inspection */
/** @typedef {import("./claims.js").Task} Task */
/** @typedef {Task["task"]} TaskName */

class Decisions {
  /** @type {Operation[]} */
  #waiting = [];
  /** @type {Refusal[]} */
  #refused = [];
  #started = false;
  #offline = false;
  #sending = false;
  #pause_ms = FIRST_PAUSE_MS;
  #timer = 0;
  /** @type {import("./store.js").Store<DecisionsView>} */
  view = createStore(/** @type {DecisionsView} */ ({ waiting: [], refused: [], offline: false }));
  /** Called with each operation that the service has answered, null: it refused; and after a withdrawal with the
   * image's new claim. @type {Set<(operation: Operation, result: Inspection | null, again?: Task) => void>} */
  listeners = new Set();

  /** Send what an earlier load of the page has left, and from now on what other tabs leave that end. */
  start() {
    if (this.#started) return;
    this.#started = true;
    this.#take([...abandoned(), readStored(storedName())]);
    addEventListener("online", this.#now);
    setInterval(this.#look, LOOK_MS);
  }

  #look = () => {
    this.#giveUpTaken();
    const left = abandoned();
    if (left.length > 0) this.#take(left);
    else this.#store(); // the time in it says that this tab is there
  };

  /** @param {StoredList[]} left */
  #take(left) {
    this.#waiting = [...this.#waiting, ...left.flatMap((one) => one.waiting)];
    this.#refused = [...this.#refused, ...left.flatMap((one) => one.refused)];
    this.#changed();
    this.#send();
  }

  /** Forget what another tab has taken over while this one slept. */
  #giveUpTaken() {
    if (localStorage.getItem(storedName()) !== null || this.#waiting.length + this.#refused.length === 0) return;
    [this.#waiting, this.#refused] = [[], []];
    this.#changed();
  }

  /**
   * @param {Task} task
   * @param {string} title the part, as people call it
   * @param {ReviewBody} body
   * @returns {Operation}
   */
  decide(task, title, body) {
    const operation = { inspection: task.inspection.id, task: task.task, title, by: body.by, body, sent: false };
    this.#append(operation);
    return operation;
  }

  /**
   * Take a decision back; return true if it was never sent, so that its claim still holds. Any other is withdrawn.
   * @param {Operation} operation
   */
  undo(operation) {
    if (operation.sent || !this.#waiting.includes(operation)) {
      this.#append({ ...operation, body: null, sent: false });
      return false;
    }
    this.#waiting = this.#waiting.filter((one) => one !== operation);
    this.#changed();
    return true;
  }

  /**
   * Forget a refusal that the person has read.
   * @param {Refusal} refusal
   */
  forget(refusal) {
    this.#refused = this.#refused.filter((one) => one !== refusal);
    this.#changed();
  }

  /** @param {Operation} operation */
  #append(operation) {
    this.#waiting.push(operation);
    this.#changed();
    this.#send();
  }

  #now = () => {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#send();
  };

  /** Send what waits, one after the other; after a failure that may pass, try again later. */
  async #send() {
    if (this.#sending || this.#timer) {
      return;
    }
    this.#sending = true;
    this.#giveUpTaken();
    try {
      for (let operation = this.#waiting[0]; operation; operation = this.#waiting[0]) {
        await this.#sendOne(operation);
        [this.#offline, this.#pause_ms] = [false, FIRST_PAUSE_MS];
        this.#waiting = this.#waiting.filter((one) => one !== operation);
        this.#changed();
      }
    } catch {
      this.#offline = true;
      this.#timer = setTimeout(this.#now, this.#pause_ms);
      this.#pause_ms = Math.min(2 * this.#pause_ms, LONGEST_PAUSE_MS);
      this.#changed();
    } finally {
      this.#sending = false;
    }
  }

  /**
   * Send an operation and report its answer.
   * @param {Operation} operation
   * @throws {Problem} if it has to be sent again
   */
  async #sendOne(operation) {
    try {
      if (operation.body) this.#answered(operation, await this.#record(operation, operation.body));
      else await this.#withdraw(operation);
    } catch (error) {
      if (!(error instanceof Problem) || mayPass(error)) {
        throw error;
      }
      if (operation.body) {
        this.#refused.push({ operation, why: error.message, type: error.type });
      }
      this.#answered(operation, null);
    }
  }

  /** @param {Operation} operation @param {Inspection | null} result @param {Task} [again] */
  #answered(operation, result, again) {
    for (const listener of this.listeners) listener(operation, result, again);
  }

  /**
   * @param {Operation} operation
   * @param {ReviewBody} body
   * @returns {Promise<Inspection>}
   */
  async #record(operation, body) {
    const path = `/v1/inspections/${operation.inspection}`;
    const isRepeated = operation.sent;
    operation.sent = true;
    if (isRepeated && !body.claim) {
      const found = /** @type {Inspection} */ (await api.get(path));
      if (found.reviews.some((review) => isSame(review, body))) return found;
    }
    body.claim ||= (await claimAgain(operation))?.claim;
    this.#store();
    try {
      return await api.send("POST", `${path}/review`, body);
    } catch (error) {
      if (!(error instanceof Problem && error.type.endsWith("claim-lost"))) throw error;
    }
    body.claim = (await claimAgain(operation))?.claim;
    if (!body.claim) await checkUndecided(operation);
    this.#store();
    return await api.send("POST", `${path}/review`, body);
  }

  /**
   * Withdraw a decision, and claim its image again: for the next decision on it, which may wait here already.
   * @param {Operation} operation
   */
  async #withdraw(operation) {
    const result = await withdraw(operation);
    const again = await claimAgain(operation);
    const next = this.#waiting.find((one) => one.inspection === operation.inspection && one.body && !one.body.claim);
    if (next?.body) next.body.claim = again?.claim;
    this.#answered(operation, result, next ? undefined : again);
  }

  #changed() {
    this.#store();
    this.view.set({ waiting: [...this.#waiting], refused: [...this.#refused], offline: this.#offline });
  }

  #store() {
    if (this.#waiting.length + this.#refused.length === 0) {
      localStorage.removeItem(storedName());
    } else {
      const stored = { at: Date.now(), waiting: this.#waiting, refused: this.#refused };
      localStorage.setItem(storedName(), JSON.stringify(stored));
    }
  }
}

/** One list for the page, which goes on sending when another section of it is shown. */
export const decisions = new Decisions();

/**
 * Withdraw the person's own decision; if there is none, there is nothing to do: an admin's call would take another's.
 * @param {Operation} operation
 * @returns {Promise<Inspection>}
 */
async function withdraw(operation) {
  const path = `/v1/inspections/${operation.inspection}`;
  const found = /** @type {Inspection} */ (await api.get(path));
  const isThere = found.reviews.some((review) => !review.withdrawn_at && review.by === operation.by);
  return isThere ? await api.send("DELETE", `${path}/review`) : found;
}

/**
 * Claim an image again for what it was given for; undefined if somebody else has it, or it waits for something else.
 * @param {Operation} operation
 * @returns {Promise<Task | undefined>}
 */
async function claimAgain({ inspection, task }) {
  const found = /** @type {Task | null} */ (await askForImage(() => ({ inspection })));
  if (!found || found.task === task) return found ?? undefined;
  await api.send("DELETE", `/v1/reviews/claims/${found.claim}`);
  return undefined;
}

/**
 * @param {Operation} operation
 * @throws {Problem} if somebody else has decided on the image: that decision is not replaced by an earlier one
 */
async function checkUndecided({ inspection, by }) {
  const found = /** @type {Inspection} */ (await api.get(`/v1/inspections/${inspection}`));
  const other = found.reviews.find((review) => !review.withdrawn_at && review.by !== by);
  if (other) throw new Problem(409, { detail: t("review.decided_by", { by: other.by }) });
}

/**
 * Whether the service may take it later: it could not be reached, was busy, or wants a new sign-in.
 * @param {Problem} problem
 */
function mayPass(problem) {
  return problem.status === 0 || problem.status === 401 || problem.status === 429 || problem.status >= 500;
}

/**
 * @param {Inspection["reviews"][number]} review
 * @param {ReviewBody} body
 */
function isSame(review, body) {
  return (
    !review.withdrawn_at &&
    review.by === body.by &&
    review.decision === body.decision &&
    (review.defect_code ?? null) === (body.defect_code ?? null)
  );
}

/** The name under which this tab keeps its list: another tab must not send the same decisions. */
function storedName() {
  return STORED + desk;
}

/** Return the lists that closed tabs have left, and take them over. */
function abandoned() {
  const names = Object.keys(localStorage).filter((name) => name.startsWith(STORED) && name !== storedName());
  const left = names.filter((name) => Date.now() - readStored(name).at > ABANDONED_MS);
  return left.map((name) => {
    const found = readStored(name);
    localStorage.removeItem(name);
    return found;
  });
}

/** @param {string} name @returns {StoredList} */
function readStored(name) {
  try {
    const { at, waiting, refused } = JSON.parse(localStorage.getItem(name) ?? "{}");
    return { at: Number(at ?? 0), waiting: waiting ?? [], refused: refused ?? [] };
  } catch {
    return { at: 0, waiting: [], refused: [] };
  }
}
