/** Titles of defect codes, from the products' review plans: people say "Missing screw", files and the MES missing-screw. */
import { api } from "./api.js";
import { useEffect, useState } from "./html.js";

/** @typedef {ReadonlyMap<string, ReadonlyMap<string, string>>} DefectTitles product -> code -> title */

/**
 * Return the titles of these products, as far as they are known by now.
 * @param {(string | null)[]} products
 * @returns {DefectTitles}
 */
export function useDefectTitles(products) {
  const [titles, setTitles] = useState(/** @type {DefectTitles} */ (new Map()));
  const wanted = [...new Set(products)].filter((name) => name && !titles.has(name)).join(" ");
  useEffect(() => {
    if (!wanted) return undefined;
    let isOver = false;
    readAll(wanted.split(" ")).then((found) => {
      if (!isOver) setTitles((before) => new Map([...before, ...found]));
    });
    return () => {
      isOver = true;
    };
  }, [wanted]);
  return titles;
}

/**
 * Return what people call a code; the code where no plan names it. Where products call it differently: each once.
 * @param {DefectTitles} titles
 * @param {string} code
 * @param {string[]} [products] default: all of the titles
 */
export function defectTitle(titles, code, products = [...titles.keys()]) {
  const found = products.map((product) => titles.get(product)?.get(code)).filter(Boolean);
  return [...new Set(found)].join(" / ") || code;
}

/**
 * Read the titles of products; a product that is gone has none, nor has any while nothing answers.
 * @param {string[]} products
 * @returns {Promise<[string, Map<string, string>][]>}
 */
async function readAll(products) {
  try {
    const found = await api.get("/v1/products");
    const known = new Set(found.products.map((/** @type {any} */ one) => one.product));
    return await Promise.all(
      products.map(async (product) => [product, known.has(product) ? await readTitles(product) : new Map()]),
    );
  } catch {
    return products.map((product) => [product, new Map()]);
  }
}

/**
 * Read a product's titles; a code that the plan has no more is called as by the last plan that had it.
 * @param {string} product
 * @returns {Promise<Map<string, string>>}
 */
async function readTitles(product) {
  const plan = await api.get(`/v1/products/${encodeURIComponent(product)}/review-plan`);
  const kinds = [...plan.earlier.toReversed(), plan].flatMap((one) => one.defect_codes);
  return new Map(kinds.map(({ code, title }) => [code, title]));
}
