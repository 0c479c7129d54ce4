// @ts-check
/** Turns events of the controls for concept prompts into actions: the text field, examples, the list of instances. */

import * as actions from "./actions.js";
import { byId } from "./elements.js";
import { instanceOf } from "./instance_panel.js";
import { state, typedFor, update } from "./state.js";

const texts = /** @type {HTMLInputElement} */ (byId("texts"));
const threshold = /** @type {HTMLInputElement} */ (byId("threshold"));

export function listenToFinding() {
  byId("find").addEventListener("submit", (event) => {
    event.preventDefault();
    actions.find();
  });
  byId("find-like").addEventListener("click", actions.findLikeBox);
  texts.addEventListener("input", () => update({ typed: texts.value }));
  texts.addEventListener("keydown", leaveField);
  threshold.addEventListener("input", () => actions.filter(threshold.valueAsNumber));
  threshold.addEventListener("change", actions.findBelow);
  byId("back").addEventListener("click", actions.back);
  byId("download-all").addEventListener("click", actions.download);
  byId("examples").addEventListener("click", changeExamples);
  listenToList(byId("instances"));
}

/** Escape first takes back what was typed, then works as elsewhere. @param {KeyboardEvent} event */
function leaveField(event) {
  if (event.key !== "Escape") return;
  event.preventDefault();
  const typed = typedFor(state.concept);
  if (state.typed === typed) actions.clear();
  else update({ typed });
}

/** @param {Event} event */
function changeExamples(event) {
  const button = /** @type {HTMLElement} */ (event.target).closest("button");
  if (!button) return;
  const index = Number(button.dataset.index);
  const { examples } = state.concept;
  if (button.dataset.does === "remove") actions.setExamples(examples.filter((_, place) => place !== index));
  else actions.setExamples(examples.map((example, place) => (place === index ? { ...example, label: example.label ? 0 : 1 } : example)));
}

/** @param {HTMLElement} list */
function listenToList(list) {
  list.addEventListener("click", ({ target }) => {
    const instance = instanceOf(target);
    if (instance) actions.refine(instance);
  });
  list.addEventListener("mouseover", ({ target }) => update({ highlighted: instanceOf(target) }));
  list.addEventListener("mouseleave", () => update({ highlighted: null }));
  list.addEventListener("focusin", ({ target }) => {
    if (/** @type {Element} */ (target).matches(":focus-visible")) update({ highlighted: instanceOf(target) });
  });
  list.addEventListener("focusout", () => update({ highlighted: null }));
  list.addEventListener("keydown", (event) => {
    const buttons = [...list.querySelectorAll("button")];
    const here = buttons.indexOf(/** @type {HTMLButtonElement} */ (event.target));
    const places = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: buttons.length - 1 };
    const place = places[/** @type {keyof typeof places} */ (event.key)];
    if (place === undefined) return;
    event.preventDefault();
    buttons[place]?.focus();
  });
}
