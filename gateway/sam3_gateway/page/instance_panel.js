// @ts-check
/** Renders the controls for concept prompts: the text field, the examples and the list of instances. */

import { byId, enable } from "./elements.js";
import { colourOf } from "./instance_drawing.js";
import { instancesAbove, isAsked, state, view } from "./state.js";
import { named } from "./wording.js";

/** @typedef {import("./server.js").Concept} Concept */
/** @typedef {import("./server.js").Example} Example */
/** @typedef {import("./server.js").Found} Found */
/** @typedef {import("./server.js").Instance} Instance */

/** What is currently shown. */
const shown = {
  concept: /** @type {Concept | null} */ (null),
  found: /** @type {Found | null} */ (null),
  threshold: NaN,
  refined: /** @type {Instance | null} */ (null),
  highlighted: /** @type {Instance | null} */ (null),
};

/** Updates everything that concerns concepts. */
export function renderConcepts() {
  renderForm();
  renderSections();
  if (shown.concept !== state.concept) renderExamples();
  if (shown.found !== state.found || shown.threshold !== state.threshold) renderInstances();
  if (shown.highlighted !== state.highlighted) renderHighlight();
}

/** The instance of an element in the list. @param {EventTarget | null} target @returns {Instance | null} */
export function instanceOf(target) {
  const button = target instanceof Element ? target.closest("button") : null;
  return state.found?.instances[Number(button?.dataset.number) - 1] ?? null;
}

function renderForm() {
  const off = state.conceptsServed === false;
  byId("no-concepts").hidden = !off;
  for (const id of ["texts", "find-texts", "find-like"]) byId(id).toggleAttribute("disabled", off);
  const texts = /** @type {HTMLInputElement} */ (byId("texts"));
  if (texts.value !== state.typed) texts.value = state.typed;
  enable("find-like", view() === "masks" && state.prompt.box !== null);
}

/** Shows either masks or instances, and moves the focus along. */
function renderSections() {
  const [masks, instances] = [byId("masks-section"), byId("instances-section")];
  const showInstances = view() === "instances";
  const hides = showInstances ? masks : instances;
  const leaves = !hides.hidden && hides.contains(document.activeElement);
  masks.hidden = showInstances;
  instances.hidden = !showInstances;
  byId("workbench").dataset.view = view();
  const behind = view() === "masks" && isAsked(state.concept);
  byId("behind").hidden = !behind;
  const count = state.found?.concept === state.concept ? instancesAbove().length : 0;
  byId("back").textContent = count ? `Back to ${counted(count)}` : "Back to the instances";
  byId("refined").textContent = state.refined
    ? `Refining instance ${state.refined.number}, ${named(state.refined.text)}: click to add or remove parts.`
    : "";
  const former = shown.refined;
  shown.refined = state.refined;
  if (leaves) (showInstances ? buttonOf(former) ?? byId("texts") : byId(behind ? "back" : "canvas")).focus();
}

/** Marks the highlighted instance. If it was pointed at in the picture, the list scrolls to it. */
function renderHighlight() {
  shown.highlighted = state.highlighted;
  const list = byId("instances");
  list.querySelector(".highlighted")?.classList.remove("highlighted");
  const button = buttonOf(state.highlighted);
  if (!button) return;
  button.classList.add("highlighted");
  if (list.matches(":hover, :focus-within")) return;
  const above = button.offsetTop - list.clientHeight + button.offsetHeight;
  list.scrollTop = Math.min(Math.max(list.scrollTop, above), button.offsetTop);
}

/** @param {Instance | null} instance @returns {HTMLElement | null} */
function buttonOf(instance) {
  return byId("instances").querySelector(`[data-number="${instance?.number}"]`);
}

function renderExamples() {
  shown.concept = state.concept;
  byId("examples").hidden = !state.concept.examples.length;
  replaceChildren(byId("examples"), state.concept.examples.map(chip), byId("texts"));
}

/** @param {Example} example @param {number} index */
function chip({ label }, index) {
  const item = document.createElement("li");
  const sign = Object.assign(document.createElement("b"), { className: label ? "plus" : "minus", textContent: label ? "+" : "−" });
  sign.ariaHidden = "true";
  const [turn, remove] = ["turn", "remove"].map((does) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    Object.assign(button.dataset, { does, index });
    return button;
  });
  turn.append(sign, ` Box ${index + 1}: ${label ? "like this" : "not this"}`);
  turn.title = label ? "Change to: not this" : "Change to: like this";
  remove.textContent = "×";
  remove.ariaLabel = `Remove box ${index + 1}`;
  item.append(turn, remove);
  return item;
}

function renderInstances() {
  Object.assign(shown, { found: state.found, threshold: state.threshold });
  const { found, threshold } = state;
  const instances = instancesAbove();
  byId("threshold-value").textContent = threshold.toFixed(2);
  byId("instance-count").textContent = found ? String(instances.length) : "";
  byId("no-instances").hidden = !found || instances.length > 0;
  byId("no-instances").textContent = `None with a score above ${threshold.toFixed(2)}. Lower the score, or use other words.`;
  const cut = found?.results.filter(({ truncated }) => truncated) ?? [];
  byId("truncated").hidden = !cut.length;
  byId("truncated").textContent = "The model reads only the first words of a text as long as this.";
  replaceChildren(byId("instances"), instances.map(row), byId("threshold"));
  enable("download-all", instances.length > 0);
}

/** @param {Instance} instance */
function row({ number, text, score }) {
  const item = document.createElement("li");
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.dataset.number = String(number);
  button.style.setProperty("--colour", colourOf(number));
  const what = text ?? "like the examples";
  for (const [className, textContent] of [["number", number], ["what", what], ["score", score.toFixed(2)]]) {
    button.append(Object.assign(document.createElement("span"), { className, textContent }));
  }
  button.ariaLabel = `Instance ${number}, ${what}, score ${score.toFixed(2)}: refine`;
  item.append(button);
  return item;
}

/**
 * Replaces the children of a list. The focus stays at its place in it.
 *
 * @param {HTMLElement} list
 * @param {HTMLElement[]} children
 * @param {HTMLElement} otherwise gets the focus if the list has become empty
 */
function replaceChildren(list, children, otherwise) {
  const place = [...list.querySelectorAll("button")].indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
  list.replaceChildren(...children);
  const buttons = [...list.querySelectorAll("button")];
  if (place >= 0) (buttons[Math.min(place, buttons.length - 1)] ?? otherwise).focus();
}

/** @param {number} count */
function counted(count) {
  return count === 1 ? "the instance" : `the ${count} instances`;
}
