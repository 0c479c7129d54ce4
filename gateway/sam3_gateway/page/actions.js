// @ts-check
/** The user's actions. Those that change what is asked can be undone, and request the answer. */

import { ask } from "./asking.js";
import { bundle } from "./bundle.js";
import { instancesAbove, isAsked, NOTHING, state, typedFor, update, view } from "./state.js";
import { describeFound, describeMask } from "./wording.js";

/** @typedef {import("./drawing.js").Place} Place */
/** @typedef {import("./server.js").Box} Box */
/** @typedef {import("./server.js").Example} Example */
/** @typedef {import("./server.js").Instance} Instance */
/** @typedef {import("./state.js").Step} Step */

/** @param {Place} place @param {0 | 1} label */
export function addPoint({ x, y }, label) {
  change({ prompt: { ...state.prompt, points: [...state.prompt.points, { x, y, label }] } });
}

/**
 * Takes a drawn box: as one more example while instances are shown, otherwise as the prompt's box.
 *
 * @param {Box} box replaces the prompt's earlier one
 * @param {0 | 1} label of an example: 1 more like this, 0 not this
 */
export function setBox(box, label) {
  if (view() === "instances") setExamples([...state.concept.examples, { box, label }]);
  else change({ prompt: { ...state.prompt, box } });
}

/** Finds every instance of what was typed and of the examples so far. */
export function find() {
  const concept = { texts: textsOf(state.typed), examples: state.concept.examples };
  if (isAsked(concept)) change({ ...NOTHING, concept });
}

/** Makes the prompt's box an example, and finds more like it. */
export function findLikeBox() {
  const { box } = state.prompt;
  if (box) setExamples([...state.concept.examples, { box, label: 1 }]);
}

/** @param {Example[]} examples */
export function setExamples(examples) {
  change({ ...NOTHING, concept: { texts: textsOf(state.typed), examples } });
}

/** Makes an instance's box the prompt, so that clicks refine its mask. @param {Instance} instance */
export function refine(instance) {
  change({ prompt: { points: [], box: instance.box }, refined: instance });
}

/** Shows the instances again. */
export function back() {
  change({ prompt: NOTHING.prompt, refined: null });
}

/** Filters the instances that are known. @param {number} threshold */
export function filter(threshold) {
  const { found } = state;
  update({ threshold, highlighted: null, ...(found && { status: describeFound(found, threshold) }) });
}

/** Requests instances if they were asked for with a higher threshold. */
export function findBelow() {
  if (view() === "instances") ask();
}

/** Reverts the last step. */
export function undo() {
  const former = state.history.pop();
  if (!former) return;
  if (former.concept !== state.concept) state.typed = typedFor(former.concept);
  Object.assign(state, former);
  ask();
}

/** Removes the points and the box; if there are none, or no instances behind them, everything. */
export function clear() {
  if (view() === "masks" && isAsked(state.concept)) back();
  else if (view() !== "nothing") change(NOTHING, { typed: "" });
}

/** @param {boolean} multimask */
export function setMultimask(multimask) {
  state.multimask = multimask;
  ask();
}

/** @param {number} index */
export function choose(index) {
  if (!state.answer?.candidates[index]) return;
  update({ chosen: index, status: describeMask(state.answer, index) });
}

/** Saves what is shown, as the server sent it: the chosen mask, or the masks of all instances in a ZIP file. */
export async function download() {
  if (!state.picture) return;
  const stem = state.picture.name.replace(/\.[^.]*$/, "");
  const candidate = state.answer?.candidates[state.chosen];
  const instances = instancesAbove();
  if (candidate) save(candidate.png, `${stem}_mask.png`);
  else if (view() === "instances" && instances.length) save(await bundle(instances), `${stem}_masks.zip`);
}

/** @param {Blob} file @param {string} name */
function save(file, name) {
  const href = URL.createObjectURL(file);
  Object.assign(document.createElement("a"), { href, download: name }).click();
  // The browser reads the URL after the click.
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

/** @param {string} line texts, separated by commas @returns {string[]} */
function textsOf(line) {
  const texts = line.split(",").map((text) => text.trim());
  return [...new Set(texts.filter(Boolean))];
}

/** @param {Partial<Step>} step @param {Partial<typeof state>} changes that undo does not revert */
function change(step, changes = {}) {
  if (!state.picture) return;
  const { prompt, concept, refined } = state;
  state.history.push({ prompt, concept, refined });
  Object.assign(state, step, changes);
  ask();
}
