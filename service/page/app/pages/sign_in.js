/** Sign-in: a person's name, and an API key where the service needs one. */
import { html, useState } from "../lib/html.js";
import { navigate } from "../lib/router.js";
import { signIn, useSession } from "../lib/session.js";
import { t } from "../lib/texts.js";
import { ProblemNote } from "../parts/problem.js";

/** @param {{query: Record<string, string>}} props `query.next`: where to go afterwards */
export default function SignIn({ query }) {
  const session = useSession();
  const [error, setError] = useState(/** @type {unknown} */ (null));
  /** @param {SubmitEvent} event */
  const accept = async (event) => {
    event.preventDefault();
    const fields = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    const key = String(fields.get("key") ?? "").trim() || null;
    try {
      await signIn({ key, person: String(fields.get("person") ?? "").trim() });
      navigate(safePath(query.next), { replace: true });
    } catch (problem) {
      setError(problem);
    }
  };
  return html`<main class="narrow">
    <h1>${t("sign_in.title")}</h1>
    <form onSubmit=${accept}>
      <label class="field">${t("person.name")}<input name="person" required maxlength="100" autofocus autocomplete="off" /></label>
      ${
        session?.needs_key &&
        html`<label class="field">${t("sign_in.key")}<input name="key" type="password" required autocomplete="off" /></label>
          <p class="hint">${t("sign_in.key_hint")}</p>`
      }
      ${error && html`<${ProblemNote} error=${error} />`}
      <div class="actions"><button type="submit" class="primary">${t("nav.sign_in")}</button></div>
    </form>
  </main>`;
}

/**
 * Return the path if it is one of this page, else the start: a link must not lead to another host.
 * @param {string | undefined} path
 */
function safePath(path) {
  return path && /^\/(?![/\\])/.test(path) ? path : "/line";
}
