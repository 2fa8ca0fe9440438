/** Thumbnails take turns: a fast line must not keep the service busy with pictures that nobody can look at. */

const AT_A_TIME = 2;

/** @typedef {{start: () => void, isDone: boolean}} Turn */

/** @type {Turn[]} */
let waiting = [];
let running = 0;

/**
 * Ask for a turn; the newest that waits comes first. After each turn its place rests as long as the turn took.
 * @param {() => void} start called when the turn begins
 * @returns {() => void} ends it, also before it began
 */
export function askForTurn(start) {
  /** @type {Turn & {began: number}} */
  const turn = { start: () => {}, isDone: false, began: 0 };
  turn.start = () => {
    turn.began = performance.now();
    start();
  };
  waiting.push(turn);
  queueMicrotask(grant);
  return () => {
    if (turn.isDone) return;
    turn.isDone = true;
    if (turn.began === 0) {
      waiting = waiting.filter((one) => one !== turn);
    } else {
      setTimeout(giveBack, performance.now() - turn.began);
    }
  };
}

function giveBack() {
  running -= 1;
  grant();
}

function grant() {
  while (running < AT_A_TIME) {
    const turn = waiting.pop();
    if (!turn) return;
    running += 1;
    turn.start();
  }
}
