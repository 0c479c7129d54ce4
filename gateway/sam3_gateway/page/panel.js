// @ts-check
/** Renders the state: the canvas, the answer and the messages. */

import { choose } from "./actions.js";
import { draw, drawThumbnail } from "./drawing.js";
import { byId, enable } from "./elements.js";
import { renderConcepts } from "./instance_panel.js";
import { instancesAbove, state, view } from "./state.js";

/** @typedef {import("./server.js").Answer} Answer */
/** @typedef {import("./server.js").Found} Found */

/** @type {Record<string, string>} */
const STAGES = {
  read: "reading the request",
  inspect: "checking the picture",
  triton: "Triton",
  encode: "writing the answer",
};
/** The answers whose masks and times are currently shown. @type {{answer: Answer | null, timed: Answer | Found | null}} */
const shown = { answer: null, timed: null };

/** Updates the whole page to match the state. */
export function render() {
  byId("workbench").setAttribute("aria-busy", String(state.busy));
  renderMessages();
  renderTools();
  renderConcepts();
  if (shown.answer !== state.answer) {
    shown.answer = state.answer;
    renderCandidates();
  }
  const timed = view() === "instances" ? state.found : state.answer;
  if (shown.timed !== timed) {
    shown.timed = timed;
    renderTiming(timed);
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
  canvas.classList.toggle("on-instance", state.highlighted !== null);
  const showInstances = view() === "instances";
  draw(canvas, {
    picture: bitmap,
    candidate: state.answer?.candidates[state.chosen],
    instances: showInstances ? instancesAbove().sort((one, other) => other.score - one.score) : [],
    highlighted: showInstances ? state.highlighted : null,
    examples: showInstances ? state.concept.examples : [],
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
  enable("clear", view() !== "nothing");
  enable("download", state.answer !== null);
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

/** @param {Answer | Found | null} answer */
function renderTiming(answer) {
  byId("no-timing").hidden = answer !== null;
  byId("timing").hidden = answer === null;
  if (!answer) return;
  const { roundTrip, cacheHit, stages } = answer;
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
