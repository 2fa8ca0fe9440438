/** What a screen on a wall needs: it stays on, shows the page alone, and can be heard. */
import { useEffect, useState } from "./html.js";
import { createStore, useStore } from "./store.js";

/** Keep the screen on while the page is seen, where the browser can do that. It takes the lock from a page that is hidden. */
export function useWakeLock() {
  useEffect(() => {
    let last = /** @type {Promise<WakeLockSentinel | null>} */ (Promise.resolve(null));
    const take = () => {
      last = last.then((lock) => (lock && !lock.released ? lock : askForLock()));
    };
    take();
    document.addEventListener("visibilitychange", take);
    return () => {
      document.removeEventListener("visibilitychange", take);
      last.then((lock) => lock?.release().catch(() => {}));
    };
  }, []);
}

/** @returns {Promise<WakeLockSentinel | null>} null: refused, or the browser has none, as without HTTPS */
async function askForLock() {
  if (document.visibilityState !== "visible" || !("wakeLock" in navigator)) return null;
  return await navigator.wakeLock.request("screen").catch(() => null);
}

/** @returns {{isPossible: boolean, isFull: boolean, toggle: () => void}} not possible: as on an iPhone */
export function useFullScreen() {
  const [isFull, setIsFull] = useState(document.fullscreenElement !== null);
  const isPossible = document.fullscreenEnabled;
  useEffect(() => {
    const see = () => setIsFull(document.fullscreenElement !== null);
    document.addEventListener("fullscreenchange", see);
    return () => document.removeEventListener("fullscreenchange", see);
  }, []);
  const toggle = () => {
    if (!isPossible) return;
    const change = isFull ? document.exitFullscreen() : document.documentElement.requestFullscreen();
    change.catch(() => {});
  };
  return { isPossible, isFull, toggle };
}

const REMEMBERED = "glad.line.sound";
const sound = createStore(localStorage.getItem(REMEMBERED) === "on");
/** Whether the browser lets the page sound: only after a click or a key. */
const isAwake = createStore(false);
/** @type {AudioContext | null} */
let audio = null;

/**
 * @returns {{state: "off" | "asleep" | "on", toggle: () => void}} off until somebody turns it on here; asleep: after a
 *   reload, until the next click or key
 */
export function useSound() {
  const isOn = useStore(sound);
  const awake = useStore(isAwake);
  useEffect(() => {
    if (!isOn) return undefined;
    context();
    const wake = () => context().resume();
    addEventListener("pointerdown", wake);
    addEventListener("keydown", wake);
    return () => {
      removeEventListener("pointerdown", wake);
      removeEventListener("keydown", wake);
    };
  }, [isOn]);
  const toggle = () => {
    sound.set(!sound.get());
    localStorage.setItem(REMEMBERED, sound.get() ? "on" : "off");
    if (sound.get()) context().resume().then(soundFail);
  };
  return { state: isOn ? (awake ? "on" : "asleep") : "off", toggle };
}

function context() {
  if (audio === null) {
    const made = new AudioContext();
    audio = made;
    made.onstatechange = () => isAwake.set(made.state === "running");
    isAwake.set(made.state === "running");
  }
  return audio;
}

/** Two falling tones, if the sound is on. */
export function soundFail() {
  if (!sound.get()) return;
  const here = context();
  if (here.state !== "running") return; // tones would wait, and all sound together at the next click
  for (const [at, hertz] of [
    [0, 880],
    [0.22, 587],
  ]) {
    const tone = new OscillatorNode(here, { type: "square", frequency: hertz });
    const volume = new GainNode(here, { gain: 0.15 });
    tone.connect(volume).connect(here.destination);
    tone.start(here.currentTime + at);
    tone.stop(here.currentTime + at + 0.2);
  }
}
