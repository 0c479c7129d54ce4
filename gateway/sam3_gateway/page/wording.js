// @ts-check
/** The sentences of the status line. */

import { coverage } from "./drawing.js";

/** @typedef {import("./server.js").Answer} Answer */
/** @typedef {import("./server.js").Encoded} Encoded */
/** @typedef {import("./server.js").Found} Found */

/** @param {Encoded} encoded */
export function describePicture({ width, height, cacheHit, milliseconds }) {
  const encoded = cacheHit ? "cached already" : `encoded in ${milliseconds.toFixed(0)} ms`;
  return `${width} × ${height} pixels, ${encoded}. Click on something.`;
}

/** @param {Answer} answer @param {number} index */
export function describeMask({ candidates, roundTrip }, index) {
  const { score, bitmap } = candidates[index];
  const share = coverage(bitmap);
  const which = candidates.length > 1 ? `Mask ${index + 1} of ${candidates.length}` : "Mask";
  const covered = `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} % of the picture`;
  return `${which}: score ${score.toFixed(2)}, ${covered}, in ${roundTrip.toFixed(0)} ms.`;
}

/** @param {Found} found @param {number} threshold */
export function describeFound({ results, instances, roundTrip }, threshold) {
  const shown = instances.filter(({ score }) => score > threshold);
  const time = `in ${roundTrip.toFixed(0)} ms`;
  if (!shown.length) return `No instance of ${listed(results.map(({ text }) => named(text)))} above ${threshold.toFixed(2)}, ${time}.`;
  const counts = results.map(({ text }) => {
    const count = shown.filter((instance) => instance.text === text).length;
    return `${count || "no"} instance${count === 1 ? "" : "s"} of ${named(text)}`;
  });
  return `${sentence(listed(counts))}, ${time}.`;
}

/** What an instance is of. @param {string | null} text null: only examples were given */
export function named(text) {
  return text === null ? "what the examples show" : `“${text}”`;
}

/** @param {string[]} parts */
function listed(parts) {
  return parts.length > 1 ? `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}` : parts[0];
}

/** @param {string} text */
function sentence(text) {
  return text[0].toUpperCase() + text.slice(1);
}
