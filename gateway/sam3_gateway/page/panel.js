// @ts-check
/** Renders the state: the canvas, the answer and the messages. */

import { draw, drawThumbnail } from "./drawing.js";
import { choose, isEmpty, state } from "./state.js";

/** @typedef {import("./server.js").Answer} Answer */

/** @type {Record<string, string>} */
const STAGES = {
  read: "reading the request",
  inspect: "checking the picture",
  triton: "Triton",
  encode: "writing the answer",
};
/** The answer that is currently shown. @type {Answer | null} */
let shown = null;

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** Updates the whole page to match the state. */
export function render() {
  byId("workbench").setAttribute("aria-busy", String(state.busy));
  renderMessages();
  renderTools();
  if (shown !== state.answer) {
    shown = state.answer;
    renderCandidates();
    renderTiming();
  }
  for (const [index, button] of [...byId("candidates").children].entries()) {
    button.setAttribute("aria-pressed", String(index === state.chosen));
  }
  renderCanvas();
}

function renderCanvas() {
  if (!state.picture) return;
  const canvas = /** @type {HTMLCanvasElement} */ (byId("canvas"));
  const { bitmap, name } = state.picture;
  byId("credit").hidden = !state.picture.bundled;
  canvas.setAttribute("aria-label", `${name}, ${bitmap.width} × ${bitmap.height} pixels`);
  byId("workbench").style.setProperty("--ratio", String(bitmap.width / bitmap.height));
  draw(canvas, {
    picture: bitmap,
    candidate: state.answer?.candidates[state.chosen],
    points: state.prompt.points,
    box: state.dragged ?? state.prompt.box,
    crosshair: state.crosshair,
  });
}

function renderMessages() {
  // Write it only if it changed: screen readers would repeat it.
  if (byId("status").textContent !== state.status) byId("status").textContent = state.status;
  byId("error").hidden = !state.error;
  byId("error-text").textContent = state.error?.text ?? "";
  byId("retry").hidden = !state.error?.retry;
  const asked = !byId("key-form").hidden;
  byId("key-form").hidden = !state.keyWanted;
  if (state.keyWanted && !asked) byId("key").focus();
}

function renderTools() {
  enable("undo", state.history.length > 0);
  enable("clear", !isEmpty(state.prompt));
  enable("download", state.answer !== null);
}

/** Uses `aria-disabled`, because `disabled` would take the focus away from the button. @param {string} id @param {boolean} on */
function enable(id, on) {
  byId(id).setAttribute("aria-disabled", String(!on));
}

function renderCandidates() {
  byId("no-candidates").hidden = state.answer !== null;
  const buttons = (state.answer?.candidates ?? []).map(({ score }, index) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.append(document.createElement("canvas"), score.toFixed(2));
    button.setAttribute("aria-label", `Candidate ${index + 1}, score ${score.toFixed(2)}`);
    button.addEventListener("click", () => choose(index));
    return button;
  });
  byId("candidates").replaceChildren(...buttons);
  for (const [index, canvas] of [...byId("candidates").getElementsByTagName("canvas")].entries()) {
    if (state.picture && state.answer) drawThumbnail(canvas, state.picture.bitmap, state.answer.candidates[index]);
  }
}

function renderTiming() {
  byId("no-timing").hidden = state.answer !== null;
  byId("timing").hidden = state.answer === null;
  if (!state.answer) return;
  const { roundTrip, cacheHit, stages } = state.answer;
  byId("round-trip").textContent = milliseconds(roundTrip);
  byId("cached").textContent = cacheHit ? "image cached" : "image encoded";
  byId("cached").classList.toggle("hit", cacheHit);
  const { total, ...named } = stages;
  const rows = Object.entries(named).map(([name, value]) => row(STAGES[name] ?? name, value, roundTrip));
  byId("stages").replaceChildren(...rows, row("network and browser", Math.max(0, roundTrip - total), roundTrip));
}

/** @param {string} name @param {number} value @param {number} whole both in milliseconds */
function row(name, value, whole) {
  const line = document.createElement("div");
  line.append(
    Object.assign(document.createElement("dt"), { textContent: name }),
    Object.assign(document.createElement("dd"), { textContent: milliseconds(value) }),
  );
  line.style.setProperty("--share", String(Math.min(1, value / whole)));
  return line;
}

/** @param {number} value */
function milliseconds(value) {
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;
}
