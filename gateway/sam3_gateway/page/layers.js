// @ts-check
/** Canvases as layers of a drawing; lines and words that are visible on every picture. */

const DARK = "rgb(0 0 0 / 75%)";

/** How far an outline reaches beyond its shape, in CSS pixels. */
export const OUTLINE = 3;

/**
 * A translucent tint, outlined in a light colour and dark so that the outline is visible on every picture.
 *
 * @param {HTMLCanvasElement} shape
 * @param {string} colour of the outline
 * @param {number} opacity of the tint
 */
export function outlined(shape, colour, opacity) {
  const layer = emptyLayer(shape.width, shape.height);
  const context = contextOf(layer);
  widened(context, recoloured(shape, DARK), OUTLINE * devicePixelRatio);
  widened(context, recoloured(shape, colour), (OUTLINE - 1) * devicePixelRatio);
  context.globalCompositeOperation = "destination-out";
  context.drawImage(shape, 0, 0);
  context.globalCompositeOperation = "source-over";
  context.globalAlpha = opacity;
  context.drawImage(shape, 0, 0);
  return layer;
}

/** @param {CanvasRenderingContext2D} context @param {HTMLCanvasElement} shape @param {number} radius */
function widened(context, shape, radius) {
  for (let step = 0; step < 16; step++) {
    const angle = (step * Math.PI) / 8;
    context.drawImage(shape, radius * Math.cos(angle), radius * Math.sin(angle));
  }
}

/** @param {HTMLCanvasElement} shape @param {string} colour */
export function recoloured(shape, colour) {
  const layer = emptyLayer(shape.width, shape.height);
  const context = contextOf(layer);
  context.drawImage(shape, 0, 0);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = colour;
  context.fillRect(0, 0, layer.width, layer.height);
  return layer;
}

/** @param {number} width @param {number} height */
export function emptyLayer(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

/** @param {HTMLCanvasElement} canvas @param {CanvasRenderingContext2DSettings} [settings] */
export function contextOf(canvas, settings) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", settings));
}

/** Draws a light colour on dark, which is visible on every picture. */
export function strokeTwice(
  /** @type {CanvasRenderingContext2D} */ context,
  /** @type {() => void} */ path,
  /** @type {number[]} */ dashes = [],
  colour = "white",
) {
  context.beginPath();
  path();
  context.setLineDash([]);
  context.lineWidth = 3.5;
  context.strokeStyle = DARK;
  context.stroke();
  context.setLineDash(dashes);
  context.lineWidth = 1.5;
  context.strokeStyle = colour;
  context.stroke();
  context.setLineDash([]);
}

/** Height of a tag, in CSS pixels. */
export const TAG_HEIGHT = 18;
const TAG_FONT = "600 12px system-ui, sans-serif";
const TAG_PADDING = 5;
const TAG_BAR = 4;

/** The width of a tag, in CSS pixels. @param {CanvasRenderingContext2D} context @param {string} text */
export function tagWidth(context, text) {
  context.font = TAG_FONT;
  return context.measureText(text).width + TAG_BAR + 2 * TAG_PADDING;
}

/**
 * Writes white on dark, with a bar in a colour.
 *
 * @param {CanvasRenderingContext2D} context in CSS pixels
 * @param {string} text
 * @param {string} colour
 * @param {number} x of the upper left corner
 * @param {number} y
 */
export function drawTag(context, text, colour, x, y) {
  const width = tagWidth(context, text);
  context.fillStyle = DARK;
  context.fillRect(x, y, width, TAG_HEIGHT);
  context.fillStyle = colour;
  context.fillRect(x, y, TAG_BAR, TAG_HEIGHT);
  context.fillStyle = "white";
  context.textBaseline = "middle";
  context.fillText(text, x + TAG_BAR + TAG_PADDING, y + TAG_HEIGHT / 2 + 1);
}
