// @ts-check
/** The page's state, and the actions that change it. Every action calls `render`. */

import { coverage } from "./drawing.js";
import { unturned } from "./orientation.js";
import { encodeImage, predict, RefusedError } from "./server.js";

/** @typedef {import("./drawing.js").Place} Place */
/** @typedef {import("./server.js").Answer} Answer */
/** @typedef {import("./server.js").Box} Box */
/** @typedef {import("./server.js").Encoded} Encoded */
/** @typedef {import("./server.js").Prompt} Prompt */

/**
 * @typedef {object} Picture
 * @property {Blob} file
 * @property {string} name
 * @property {boolean} bundled whether it is the sample photo
 * @property {ImageBitmap} bitmap the pixels as stored, as the server sees them
 * @property {AbortController} upload
 * @property {Promise<Encoded> | null} encoded shared by all clicks; null before the first attempt and after a failed one
 */

const ENCODING = "Sending and encoding the picture …";
const SEGMENTING = "Looking for the mask …";
const SLOW_MS = 400;
/** Statuses for pictures that the server never accepts: too large, or in an unknown format. */
const HOPELESS = new Set([413, 415]);
/** @type {Prompt} */
const NOTHING = { points: [], box: null };

export const state = {
  /** @type {Picture | null} */
  picture: null,
  prompt: NOTHING,
  /** @type {Prompt[]} */
  history: [],
  /** @type {Answer | null} */
  answer: null,
  chosen: 0,
  /** The label of a plain click. @type {0 | 1} */
  mode: 1,
  multimask: true,
  /** The box that is being drawn. @type {Box | null} */
  dragged: null,
  /** @type {Place | null} */
  crosshair: null,
  /** The first corner of a box that is drawn with the crosshair. @type {Place | null} */
  corner: null,
  busy: true,
  status: "Loading the picture …",
  /** @type {{text: string, retry: boolean} | null} */
  error: null,
  keyWanted: false,
};

let render = () => {};
let openings = 0;
let asking = new AbortController();

/** @param {() => void} renderer is called after every change */
export function start(renderer) {
  render = renderer;
}

/** Applies changes that need no request. @param {Partial<typeof state>} changes */
export function update(changes) {
  Object.assign(state, changes);
  render();
}

/**
 * Shows a picture, and has it encoded so that the first click is fast.
 *
 * @param {Blob} file
 * @param {string} name
 * @param {boolean} bundled
 */
export async function openPicture(file, name, bundled = false) {
  const opening = ++openings;
  const bitmap = await decode(file);
  if (opening !== openings) return;
  if (!bitmap) {
    update({ error: { text: `This browser cannot show “${name}”. The page takes PNG, JPEG and WebP; the HTTP API takes more formats.`, retry: false } });
    return;
  }
  state.picture?.upload.abort();
  const picture = { file, name, bundled, bitmap, upload: new AbortController(), encoded: null };
  Object.assign(state, { picture, prompt: NOTHING, history: [], dragged: null, crosshair: null, corner: null });
  await ask();
}

/** @param {Place} place @param {0 | 1} label */
export function addPoint({ x, y }, label) {
  change({ ...state.prompt, points: [...state.prompt.points, { x, y, label }] });
}

/** @param {Box} box replaces the earlier one */
export function setBox(box) {
  change({ ...state.prompt, box });
}

/** Reverts the last point, box or `clear`. */
export function undo() {
  const former = state.history.pop();
  if (!former) return;
  state.prompt = former;
  ask();
}

/** Removes all points and the box. */
export function clear() {
  if (!isEmpty(state.prompt)) change(NOTHING);
}

/** @param {boolean} multimask */
export function setMultimask(multimask) {
  state.multimask = multimask;
  ask();
}

/** @param {number} index */
export function choose(index) {
  if (!state.answer?.candidates[index]) return;
  update({ chosen: index, status: describe(state.answer, index) });
}

/** @param {Prompt} prompt */
export function isEmpty(prompt) {
  return !prompt.points.length && !prompt.box;
}

/** Saves the chosen mask as the server sent it. */
export function download() {
  const candidate = state.answer?.candidates[state.chosen];
  if (!candidate || !state.picture) return;
  const href = URL.createObjectURL(candidate.png);
  const stem = state.picture.name.replace(/\.[^.]*$/, "");
  Object.assign(document.createElement("a"), { href, download: `${stem}_mask.png` }).click();
  // The browser reads the URL after the click.
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

/** Requests masks for the current prompt, and cancels the previous request. */
export async function ask() {
  const { picture, prompt, multimask } = state;
  if (!picture) return;
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  Object.assign(state, { busy: true, error: null });
  if (isEmpty(prompt)) state.answer = null;
  render();
  // A fast answer needs no progress message.
  const slow = setTimeout(() => update({ status: isEmpty(prompt) ? ENCODING : SEGMENTING }), SLOW_MS);
  signal.addEventListener("abort", () => clearTimeout(slow));
  try {
    const encoded = await encodedOnce(picture);
    signal.throwIfAborted();
    const answer = isEmpty(prompt) ? null : await predict(encoded.id, picture.file, prompt, multimask, signal);
    signal.throwIfAborted();
    const status = answer ? describe(answer, 0) : ready(encoded);
    update({ answer, chosen: 0, status, busy: false, keyWanted: false });
  } catch (error) {
    if (!signal.aborted) fail(error);
  } finally {
    clearTimeout(slow);
  }
}

/** @param {unknown} error */
function fail(error) {
  const text = error instanceof Error ? error.message : String(error);
  const status = error instanceof RefusedError ? error.status : 0;
  const keyWanted = status === 401;
  const retry = !keyWanted && !HOPELESS.has(status);
  update({ answer: null, busy: false, status: "", error: { text, retry }, keyWanted });
}

/** @param {Prompt} prompt */
function change(prompt) {
  if (!state.picture) return;
  state.history.push(state.prompt);
  state.prompt = prompt;
  ask();
}

/** @param {Blob} file @returns {Promise<ImageBitmap | null>} null if it is not a picture */
async function decode(file) {
  return createImageBitmap(await unturned(file)).catch(() => null);
}

/** @param {Picture} picture @returns {Promise<Encoded>} */
function encodedOnce(picture) {
  picture.encoded ??= encode(picture).catch((error) => {
    picture.encoded = null;
    throw error;
  });
  return picture.encoded;
}

/** @param {Picture} picture */
async function encode({ file, bitmap, upload }) {
  const encoded = await encodeImage(file, upload.signal);
  if (encoded.width !== bitmap.width || encoded.height !== bitmap.height) {
    throw new Error("This browser rotates the picture, so clicks would miss. Save it as a PNG first.");
  }
  return encoded;
}

/** @param {Encoded} encoded */
function ready({ width, height, cacheHit, milliseconds }) {
  const encoded = cacheHit ? "cached already" : `encoded in ${milliseconds.toFixed(0)} ms`;
  return `${width} × ${height} pixels, ${encoded}. Click on something.`;
}

/** @param {Answer} answer @param {number} index */
function describe({ candidates, roundTrip }, index) {
  const { score, bitmap } = candidates[index];
  const share = coverage(bitmap);
  const which = candidates.length > 1 ? `Mask ${index + 1} of ${candidates.length}` : "Mask";
  const covered = `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} % of the picture`;
  return `${which}: score ${score.toFixed(2)}, ${covered}, in ${roundTrip.toFixed(0)} ms.`;
}
