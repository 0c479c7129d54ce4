// @ts-check
/** The page's elements. */

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** Uses `aria-disabled`, because `disabled` would take the focus away from the button. @param {string} id @param {boolean} on */
export function enable(id, on) {
  byId(id).setAttribute("aria-disabled", String(!on));
}
