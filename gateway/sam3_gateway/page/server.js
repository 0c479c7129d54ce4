// @ts-check
/** The part of the gateway's HTTP API that this page uses. */

import { shapeOf } from "./shapes.js";

/** @typedef {import("./shapes.js").Shape} Shape */
/** @typedef {{x: number, y: number, label: 0 | 1}} Point pixels of the stored image; 1 foreground, 0 background */
/** @typedef {[number, number, number, number]} Box x1, y1, x2, y2 in pixels */
/** @typedef {{points: Point[], box: Box | null}} Prompt */
/** @typedef {{score: number, png: Blob, bitmap: ImageBitmap}} Candidate */
/** @typedef {{candidates: Candidate[], cacheHit: boolean, stages: Record<string, number>, roundTrip: number}} Answer */
/** @typedef {{box: Box, label: 0 | 1}} Example 1 more like this, 0 not this */
/** @typedef {{texts: string[], examples: Example[]}} Concept the examples apply to every text */
/**
 * @typedef {object} Instance
 * @property {number} number from 1, in the order of the answer
 * @property {string | null} text that it was found by; null: by examples alone
 * @property {number} score
 * @property {Box} box
 * @property {Blob} png
 * @property {Shape | null} shape null if the mask is empty
 */
/** @typedef {{text: string | null, truncated: boolean}} Result `truncated`: the model read only the beginning of the text */
/**
 * @typedef {object} Found
 * @property {Concept} concept that was asked for
 * @property {number} threshold that it was asked for with
 * @property {Result[]} results one for each text, or one of the examples alone
 * @property {Instance[]} instances text by text, best first
 * @property {boolean} cacheHit
 * @property {Record<string, number>} stages
 * @property {number} roundTrip
 */
/** `width` and `height` as the server reports them. */
/** @typedef {{id: string, width: number, height: number, cacheHit: boolean, milliseconds: number}} Encoded */

const KEY = "sam3-api-key";

/** The gateway refused a request. The message is the answer's `detail`. */
export class RefusedError extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Keeps the key, for this browser tab only. @param {string} key */
export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

/**
 * Has the server encode and cache the image, so that clicks on it are fast.
 *
 * @param {Blob} image
 * @param {AbortSignal} signal
 * @returns {Promise<Encoded>}
 */
export async function encodeImage(image, signal) {
  const { image_id: id, width, height, cache_hit: cacheHit, milliseconds } = await post("v1/images", { image }, signal);
  return { id, width, height, cacheHit, milliseconds: milliseconds.total };
}

/**
 * Requests masks by the image's id. If the server no longer has the image, sends the image.
 *
 * @param {string} imageId
 * @param {Blob} image
 * @param {Prompt} prompt
 * @param {boolean} multimask
 * @param {AbortSignal} signal
 * @returns {Promise<Answer>} candidates best first
 */
export async function predict(imageId, image, prompt, multimask, signal) {
  const { answer, ...timing } = await postByImageId("v1/predict", imageId, image, promptFields(prompt, multimask), signal);
  return { candidates: await Promise.all(answer.candidates.map(decodeCandidate)), ...timing };
}

/** Whether the server has concept prompts; null if it does not say. @returns {Promise<boolean | null>} */
export async function areConceptsServed() {
  const answer = await fetch("v1/concepts").then((response) => (response.ok ? response.json() : null), () => null);
  return answer?.served ?? null;
}

/**
 * Requests every instance of a concept by the image's id. If the server no longer has the image, sends the image.
 *
 * @param {string} imageId
 * @param {Blob} image
 * @param {{width: number, height: number}} size of the image
 * @param {Concept} concept
 * @param {number} threshold
 * @param {AbortSignal} signal
 * @returns {Promise<Found>}
 */
export async function find(imageId, image, size, concept, threshold, signal) {
  const fields = { ...conceptFields(concept), threshold: String(threshold) };
  const { answer, ...timing } = await postByImageId("v1/concepts", imageId, image, fields, signal);
  /** @type {(Result & {instances: {score: number, box: Box, mask: {data: string}}[]})[]} */
  const sent = answer.results;
  const each = sent.flatMap(({ text, instances }) => instances.map((instance) => ({ text, ...instance })));
  const instances = await Promise.all(
    each.map(async ({ text, score, box, mask }, index) => {
      const png = decodePng(mask);
      return { number: index + 1, text, score, box, png, shape: await shapeOf(png, size) };
    }),
  );
  // Without the masks, which are large.
  const results = sent.map(({ text, truncated }) => ({ text, truncated }));
  return { concept, threshold, results, instances, ...timing };
}

/**
 * @param {string} path
 * @param {string} imageId
 * @param {Blob} image
 * @param {Record<string, string>} fields
 * @param {AbortSignal} signal
 * @returns {Promise<{answer: any, cacheHit: boolean, stages: Record<string, number>, roundTrip: number}>}
 */
async function postByImageId(path, imageId, image, fields, signal) {
  const started = performance.now();
  let answer;
  try {
    answer = await post(path, { image_id: imageId, ...fields }, signal);
  } catch (error) {
    if (!(error instanceof RefusedError && error.status === 404)) throw error;
    answer = await post(path, { image, ...fields }, signal);
  }
  const roundTrip = performance.now() - started;
  return { answer, cacheHit: answer.cache_hit, stages: answer.milliseconds, roundTrip };
}

/** @param {Concept} concept @returns {Record<string, string>} */
function conceptFields({ texts, examples }) {
  /** @type {Record<string, string>} */
  const fields = {};
  if (texts.length) fields.texts = JSON.stringify(texts);
  if (examples.length) {
    fields.boxes = JSON.stringify(examples.map(({ box }) => box));
    fields.box_labels = JSON.stringify(examples.map(({ label }) => label));
  }
  return fields;
}

/** @param {Prompt} prompt @param {boolean} multimask @returns {Record<string, string>} */
function promptFields(prompt, multimask) {
  /** @type {Record<string, string>} */
  const fields = { multimask: String(multimask) };
  if (prompt.points.length) {
    fields.points = JSON.stringify(prompt.points.map(({ x, y }) => [x, y]));
    fields.labels = JSON.stringify(prompt.points.map(({ label }) => label));
  }
  if (prompt.box) fields.box = JSON.stringify(prompt.box);
  return fields;
}

/** @param {{score: number, mask: {data: string}}} candidate @returns {Promise<Candidate>} */
async function decodeCandidate({ score, mask }) {
  const png = decodePng(mask);
  return { score, png, bitmap: await createImageBitmap(png) };
}

/** @param {{data: string}} mask base64 @returns {Blob} */
function decodePng({ data }) {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type: "image/png" });
}

/**
 * @param {string} path
 * @param {Record<string, string | Blob>} fields
 * @param {AbortSignal} signal
 * @returns {Promise<any>}
 */
async function post(path, fields, signal) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  const key = sessionStorage.getItem(KEY);
  const response = await reach(path, { method: "POST", body, signal, headers: key ? { "X-API-Key": key } : {} });
  if (!response.ok) throw new RefusedError(response.status, await reason(response));
  return response.json();
}

/** A fetch with a readable error message. @param {string} path @param {RequestInit} options */
async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Error("The server cannot be reached. Is it still running?");
  }
}

/** @param {Response} response @returns {Promise<string>} */
async function reason(response) {
  const fallback = `The server answered ${response.status} ${response.statusText}`.trim();
  const detail = await response.json().then(({ detail }) => detail || fallback, () => fallback);
  const wait = response.headers.get("Retry-After");
  return wait ? `${detail} (try again in ${wait} s)` : String(detail);
}
