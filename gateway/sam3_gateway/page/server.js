// @ts-check
/** The part of the gateway's HTTP API that this page uses. */

/** @typedef {{x: number, y: number, label: 0 | 1}} Point pixels of the stored image; 1 foreground, 0 background */
/** @typedef {[number, number, number, number]} Box x1, y1, x2, y2 in pixels */
/** @typedef {{points: Point[], box: Box | null}} Prompt */
/** @typedef {{score: number, png: Blob, bitmap: ImageBitmap}} Candidate */
/** @typedef {{candidates: Candidate[], cacheHit: boolean, stages: Record<string, number>, roundTrip: number}} Answer */
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
  const fields = promptFields(prompt, multimask);
  const started = performance.now();
  let answer;
  try {
    answer = await post("v1/predict", { image_id: imageId, ...fields }, signal);
  } catch (error) {
    if (!(error instanceof RefusedError && error.status === 404)) throw error;
    answer = await post("v1/predict", { image, ...fields }, signal);
  }
  const roundTrip = performance.now() - started;
  const candidates = await Promise.all(answer.candidates.map(decodeCandidate));
  return { candidates, cacheHit: answer.cache_hit, stages: answer.milliseconds, roundTrip };
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
  const bytes = Uint8Array.from(atob(mask.data), (character) => character.charCodeAt(0));
  const png = new Blob([bytes], { type: "image/png" });
  return { score, png, bitmap: await createImageBitmap(png) };
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
