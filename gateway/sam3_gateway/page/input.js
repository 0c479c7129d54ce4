// @ts-check
/** Turns events of pointer, keys and files into actions. */

import * as actions from "./actions.js";
import { ask, openPicture } from "./asking.js";
import { byId } from "./elements.js";
import { listenToFinding } from "./finding.js";
import { useKey } from "./server.js";
import { instanceAt, state, update } from "./state.js";

/** @typedef {import("./drawing.js").Place} Place */
/** @typedef {import("./server.js").Box} Box */

/** How far a click may move before it counts as a drag, in CSS pixels. Fingers move more. */
const WANDER = { mouse: 5, pen: 6, touch: 12 };
const canvas = /** @type {HTMLCanvasElement} */ (byId("canvas"));
const file = /** @type {HTMLInputElement} */ (byId("file"));
/** The pointer that is down. @type {{id: number, button: number, start: PointerEvent} | null} */
let pressed = null;

/** Listens to all input on the page. */
export function listen() {
  listenToPointer();
  listenToFiles();
  listenToControls();
  listenToFinding();
  canvas.addEventListener("keydown", steer);
  canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && showCrosshair());
  canvas.addEventListener("blur", () => update({ crosshair: null, corner: null, dragged: null }));
  // Single letters work only among the tools, so that they do nothing unexpected elsewhere.
  byId("workbench").addEventListener("keydown", shortcut);
}

function listenToPointer() {
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("pointerdown", press);
  canvas.addEventListener("pointermove", drag);
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", letGo);
  canvas.addEventListener("pointerleave", () => highlight(null));
}

/** @param {PointerEvent} event */
function press(event) {
  if (pressed) return letGo(); // a second finger: the user zooms
  if (event.button !== 0 && event.button !== 2) return;
  canvas.setPointerCapture(event.pointerId);
  pressed = { id: event.pointerId, button: event.button, start: event };
  update({ crosshair: null, corner: null, dragged: null });
}

/** @param {PointerEvent} event */
function drag(event) {
  if (!pressed) return highlight(placeOf(event));
  if (event.pointerId !== pressed.id || pressed.button !== 0) return;
  if (!state.dragged && !wandered(pressed.start, event)) return;
  update({ dragged: boxOf(placeOf(pressed.start), placeOf(event)) });
}

/** @param {PointerEvent} event */
function release(event) {
  if (event.pointerId !== pressed?.id) return;
  const { start, button } = pressed;
  const box = state.dragged;
  letGo();
  const label = button === 2 || event.altKey || event.ctrlKey ? 0 : state.mode;
  if (box) actions.setBox(box, label);
  else pick(placeOf(start), label);
}

/** Refines the instance at a place, or adds a point. @param {Place} place @param {0 | 1} label */
function pick(place, label) {
  const instance = instanceAt(place);
  if (instance) actions.refine(instance);
  else actions.addPoint(place, label);
}

/** @param {Place | null} place */
function highlight(place) {
  const highlighted = place && instanceAt(place);
  if (highlighted !== state.highlighted) update({ highlighted });
}

/** Cancels the box that is being drawn, by pointer or by keys. */
function letGo() {
  pressed = null;
  update({ dragged: null, corner: null });
}

/** @param {PointerEvent} start @param {PointerEvent} event */
function wandered(start, event) {
  const allowed = WANDER[/** @type {keyof typeof WANDER} */ (event.pointerType)] ?? WANDER.mouse;
  return Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) > allowed;
}

/** The pixel of the picture under the pointer, or the nearest one. @param {PointerEvent} event @returns {Place} */
function placeOf(event) {
  const frame = canvas.getBoundingClientRect();
  const { width, height } = size();
  return inside({
    x: Math.floor(((event.clientX - frame.left) / frame.width) * width),
    y: Math.floor(((event.clientY - frame.top) / frame.height) * height),
  });
}

/** The smallest box that contains both pixels. @param {Place} one @param {Place} other @returns {Box} */
function boxOf(one, other) {
  const [x1, x2] = [Math.min(one.x, other.x), Math.max(one.x, other.x) + 1];
  const [y1, y2] = [Math.min(one.y, other.y), Math.max(one.y, other.y) + 1];
  return [x1, y1, x2, y2];
}

/** @param {Place} place @returns {Place} */
function inside({ x, y }) {
  const { width, height } = size();
  return { x: Math.min(Math.max(x, 0), width - 1), y: Math.min(Math.max(y, 0), height - 1) };
}

function size() {
  return state.picture?.bitmap ?? { width: 1, height: 1 };
}

/** Handles the keys that use the crosshair. @param {KeyboardEvent} event */
function steer(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || !state.picture) return;
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const move = moves[/** @type {keyof typeof moves} */ (event.key)];
  if (move) moveCrosshair(move, event.shiftKey);
  else if (event.key === "Enter" || event.key === " ") pick(showCrosshair(), 1);
  else if (event.key === "Backspace" || event.key.toLowerCase() === "b") actions.addPoint(showCrosshair(), 0);
  else if (event.key.toLowerCase() === "x") markCorner();
  else return;
  event.preventDefault();
}

/** @param {number[]} direction @param {boolean} far */
function moveCrosshair([dx, dy], far) {
  const { width, height } = size();
  const step = Math.max(1, Math.round((Math.max(width, height) / 100) * (far ? 8 : 1)));
  const { x, y } = showCrosshair();
  const crosshair = inside({ x: x + dx * step, y: y + dy * step });
  update({ crosshair, dragged: state.corner && boxOf(state.corner, crosshair), highlighted: instanceAt(crosshair) });
}

/** The crosshair's position. If it is hidden, shows it in the middle. @returns {Place} */
function showCrosshair() {
  const { width, height } = size();
  if (!state.crosshair) update({ crosshair: { x: Math.floor(width / 2), y: Math.floor(height / 2) } });
  return /** @type {Place} */ (state.crosshair);
}

function markCorner() {
  const place = showCrosshair();
  if (!state.corner) {
    update({ corner: place, status: "First corner of the box. Move to the opposite corner and press X again." });
    return;
  }
  const box = boxOf(state.corner, place);
  letGo();
  actions.setBox(box, state.mode);
}

/** Handles the keys that work while any of the tools has the focus. @param {KeyboardEvent} event */
function shortcut(event) {
  if (event.target === byId("key") || event.target === byId("texts")) return;
  const key = (event.ctrlKey || event.metaKey ? "ctrl+" : "") + event.key.toLowerCase();
  if (key === "u" || key === "ctrl+z") actions.undo();
  else if (key === "escape") escape();
  else if (key === "d") actions.download();
  else if (key === "/") byId("texts").focus();
  else if (key === "?") byId("help").toggleAttribute("open");
  else if (/^[1-3]$/.test(key)) actions.choose(Number(key) - 1);
  else return;
  event.preventDefault();
}

function escape() {
  if (pressed || state.corner) letGo();
  else actions.clear();
}

function listenToControls() {
  byId("undo").addEventListener("click", actions.undo);
  byId("clear").addEventListener("click", actions.clear);
  byId("download").addEventListener("click", actions.download);
  byId("retry").addEventListener("click", ask);
  byId("multimask").addEventListener("change", (event) => actions.setMultimask(inputOf(event).checked));
  for (const radio of document.getElementsByName("mode")) {
    radio.addEventListener("change", (event) => update({ mode: inputOf(event).value === "1" ? 1 : 0 }));
  }
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(/** @type {HTMLInputElement} */ (byId("key")).value);
    ask();
  });
}

/** @param {Event} event */
function inputOf(event) {
  return /** @type {HTMLInputElement} */ (event.currentTarget);
}

function listenToFiles() {
  byId("open").addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    openFirst(file.files);
    file.value = ""; // so that the same file can be opened again
  });
  document.addEventListener("paste", (event) => openFirst(event.clipboardData?.files));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping"); // the pointer left the page
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    openFirst(event.dataTransfer?.files);
  });
}

/** @param {FileList | null | undefined} files */
function openFirst(files) {
  const first = files?.[0];
  if (first) openPicture(first, first.name);
}
