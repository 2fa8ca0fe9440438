/** The pictures of one inspection, one at a time, and links to all that is stored of it. */
import { artifactUrl } from "../lib/api.js";
import { html, useEffect, useState } from "../lib/html.js";
import { useKeys } from "../lib/keys.js";
import { t } from "../lib/texts.js";

const PICTURES = ["image", "overlay.png", "heatmap.png", "reconstruction.png", "mask.png"];
const AGAIN_MS = 1_500;

/** @param {{inspection: any}} props */
export function InspectionPictures({ inspection }) {
  const names = PICTURES.filter((name) => name in inspection.artifacts);
  const [chosen, setChosen] = useState(inspection.verdict === "pass" ? "image" : "overlay.png");
  const name = names.includes(chosen) ? chosen : (names[0] ?? null);
  const step = (/** @type {number} */ by) => {
    const place = names.indexOf(name ?? "");
    if (names.length > 0) setChosen(names[(place + by + names.length) % names.length]);
  };
  useKeys({ ArrowRight: () => step(1), ArrowLeft: () => step(-1) });
  return html`<section class="card">
    <h2>${t("inspection.pictures")}</h2>
    <div class="picture-choice" role="group" aria-label=${t("inspection.pictures")}>
      ${names.map((one) => html`<button key=${one} type="button" aria-pressed=${one === name} onClick=${() => setChosen(one)}>${t(`artifact.${one}`)}</button>`)}
    </div>
    ${name ? html`<${Picture} key=${name} inspection=${inspection} name=${name} />` : html`<p class="hint">${t("inspection.no_pictures")}</p>`}
    <h3>${t("inspection.files")}</h3>
    <ul class="inspection-files">
      ${Object.keys(inspection.artifacts).map((one) => html`<li key=${one}><a href=${artifactUrl(inspection.id, one)} target="_blank" rel="noreferrer">${t(`artifact.${one}`)}</a> <span class="hint">${one}</span></li>`)}
    </ul>
  </section>`;
}

/** @param {{inspection: any, name: string}} props one that a worker has to draw is asked for until it is there */
function Picture({ inspection, name }) {
  const [picture, setPicture] = useState({ url: "", state: "loading" });
  useEffect(() => {
    const aborter = new AbortController();
    let timer = 0;
    let url = "";
    const ask = async () => {
      try {
        const answer = await fetch(artifactUrl(inspection.id, name), { signal: aborter.signal });
        if (answer.ok && answer.status !== 202) url = URL.createObjectURL(await answer.blob());
        setPicture({ url, state: answer.status === 202 ? "drawing" : answer.ok ? "ready" : "gone" });
        if (answer.status === 202) timer = setTimeout(ask, AGAIN_MS);
      } catch {
        if (!aborter.signal.aborted) setPicture({ url: "", state: "gone" });
      }
    };
    ask();
    return () => {
      aborter.abort();
      clearTimeout(timer);
      if (url) URL.revokeObjectURL(url);
    };
  }, [inspection.id, name]);
  if (picture.url) return html`<img class="inspection-picture" src=${picture.url} alt=${t(`artifact.${name}`)} />`;
  return html`<p class="hint inspection-picture" role="status">${t(`picture.${picture.state}`)}</p>`;
}
