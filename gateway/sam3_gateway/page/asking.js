// @ts-check
/** Opens pictures and asks the server. The latest request wins: it cancels the previous one. */

import { unturned } from "./orientation.js";
import { encodeImage, find, predict, RefusedError } from "./server.js";
import { NOTHING, state, update, view } from "./state.js";
import { describeFound, describeMask, describePicture } from "./wording.js";

/** @typedef {import("./server.js").Encoded} Encoded */
/** @typedef {import("./state.js").Picture} Picture */

const PROGRESS = {
  nothing: "Sending and encoding the picture …",
  masks: "Looking for the mask …",
  instances: "Looking for instances …",
};
const SLOW_MS = 400;
/** Statuses for pictures that the server never accepts: too large, or in an unknown format. */
const HOPELESS = new Set([413, 415]);

let openings = 0;
let asking = new AbortController();

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
  Object.assign(state, { ...NOTHING, picture, history: [], dragged: null, crosshair: null, corner: null });
  await ask();
}

/** Requests what the current step asks for. */
export async function ask() {
  const { picture } = state;
  if (!picture) return;
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  const shown = view();
  Object.assign(state, { busy: true, error: null, highlighted: null });
  if (shown !== "masks") state.answer = null;
  if (shown === "nothing") state.found = null;
  update({});
  // A fast answer needs no progress message.
  const slow = setTimeout(() => update({ status: PROGRESS[shown] }), SLOW_MS);
  signal.addEventListener("abort", () => clearTimeout(slow));
  try {
    const encoded = await encodedOnce(picture);
    signal.throwIfAborted();
    const changes = await ANSWERS[shown](picture, encoded, signal);
    signal.throwIfAborted();
    update({ ...changes, busy: false, keyWanted: false });
  } catch (error) {
    if (!signal.aborted) fail(error);
  } finally {
    clearTimeout(slow);
  }
}

/** @type {Record<ReturnType<typeof view>, (picture: Picture, encoded: Encoded, signal: AbortSignal) => Promise<Partial<typeof state>>>} */
const ANSWERS = {
  nothing: async (_, encoded) => ({ status: describePicture(encoded) }),
  masks: async (picture, { id }, signal) => {
    const answer = await predict(id, picture.file, state.prompt, state.multimask, signal);
    return { answer, chosen: 0, status: describeMask(answer, 0) };
  },
  instances: async (picture, { id }, signal) => {
    const { concept, threshold } = state;
    const kept = state.found?.concept === concept && state.found.threshold <= threshold ? state.found : null;
    const found = kept ?? (await find(id, picture.file, picture.bitmap, concept, threshold, signal));
    return { found, status: describeFound(found, state.threshold) };
  },
};

/** @param {unknown} error */
function fail(error) {
  const text = error instanceof Error ? error.message : String(error);
  const status = error instanceof RefusedError ? error.status : 0;
  const keyWanted = status === 401;
  const retry = !keyWanted && !HOPELESS.has(status);
  const found = view() === "masks" ? state.found : null;
  update({ answer: null, found, busy: false, status: "", error: { text, retry }, keyWanted });
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
