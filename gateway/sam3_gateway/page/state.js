// @ts-check
/** The page's state. `actions.js` changes it, `asking.js` fills in the answers, `panel.js` shows it. */

import { contains } from "./shapes.js";

/** @typedef {import("./drawing.js").Place} Place */
/** @typedef {import("./server.js").Answer} Answer */
/** @typedef {import("./server.js").Box} Box */
/** @typedef {import("./server.js").Concept} Concept */
/** @typedef {import("./server.js").Encoded} Encoded */
/** @typedef {import("./server.js").Found} Found */
/** @typedef {import("./server.js").Instance} Instance */
/** @typedef {import("./server.js").Prompt} Prompt */

/**
 * @typedef {object} Picture
 * @property {Blob} file
 * @property {string} name
 * @property {boolean} bundled whether it is the sample photo
 * @property {ImageBitmap} bitmap the pixels as stored, as the server sees them
 * @property {AbortController} upload
 * @property {Promise<Encoded> | null} encoded shared by all requests; null before the first attempt and after a failed one
 */

/** What the user asks for, and what undo brings back. @typedef {{prompt: Prompt, concept: Concept, refined: Instance | null}} Step */

/** @type {Step} */
export const NOTHING = { prompt: { points: [], box: null }, concept: { texts: [], examples: [] }, refined: null };

export const state = {
  /** @type {Picture | null} */
  picture: null,
  /** Points and box of one object. @type {Prompt} */
  prompt: NOTHING.prompt,
  /** Find every instance of this. It stays while one instance is refined by clicks. @type {Concept} */
  concept: NOTHING.concept,
  /** The content of the text field: the texts of the next concept. */
  typed: "",
  /** The instance whose box is the prompt. @type {Instance | null} */
  refined: null,
  /** @type {Step[]} */
  history: [],
  /** The answer to the prompt. @type {Answer | null} */
  answer: null,
  chosen: 0,
  /** The answer to the concept. @type {Found | null} */
  found: null,
  /** Only instances with a score above it are shown. */
  threshold: 0.5,
  /** The instance under the pointer or the focus. @type {Instance | null} */
  highlighted: null,
  /** Whether the server has concept prompts; null before it has said so. @type {boolean | null} */
  conceptsServed: null,
  /** The label of a plain click, or of an example. @type {0 | 1} */
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
 * What the picture and the panel show: the masks of one object, the instances of a concept, or neither.
 *
 * @returns {"masks" | "instances" | "nothing"}
 */
export function view() {
  if (state.prompt.points.length || state.prompt.box) return "masks";
  return isAsked(state.concept) ? "instances" : "nothing";
}

/** @param {Concept} concept */
export function isAsked({ texts, examples }) {
  return texts.length + examples.length > 0;
}

/** What to type for a concept's texts. @param {Concept} concept */
export function typedFor({ texts }) {
  return texts.join(", ");
}

/** The found instances whose score is above the threshold. @returns {Instance[]} */
export function instancesAbove() {
  return state.found?.instances.filter(({ score }) => score > state.threshold) ?? [];
}

/** The instance that is shown at a pixel, the smallest if there are several. @param {Place} place @returns {Instance | null} */
export function instanceAt(place) {
  if (view() !== "instances") return null;
  const there = instancesAbove().filter(({ shape }) => shape && contains(shape, place));
  return there.sort((one, other) => (one.shape?.area ?? 0) - (other.shape?.area ?? 0))[0] ?? null;
}
