// @ts-check
/** Draws the instances of a concept: each in its own colour, with its number and score. */

import { contextOf, drawTag, emptyLayer, outlined, OUTLINE, recoloured, strokeTwice, TAG_HEIGHT, tagWidth } from "./layers.js";

/** @typedef {import("./server.js").Box} Box */
/** @typedef {import("./server.js").Instance} Instance */
/** @typedef {import("./shapes.js").Shape} Shape */

const TINT_OPACITY = 0.45;
const HIGHLIGHT_OPACITY = 0.65;
/** Of the other instances while one is highlighted. */
const DIMMED = 0.4;

/** The instances without a highlight, because a highlight redraws them often. */
let kept = { instances: /** @type {Instance[]} */ ([]), layer: emptyLayer(1, 1) };

/** A colour that differs from those of the numbers nearby: hues turn by the golden angle. @param {number} number from 1 */
export function colourOf(number) {
  return `hsl(${((212 + 137.508 * (number - 1)) % 360).toFixed(0)} 90% 62%)`;
}

/**
 * @param {CanvasRenderingContext2D} context in pixels of the screen
 * @param {Instance[]} instances best first
 * @param {Instance | null} highlighted
 * @param {number} scale CSS pixels / pixels of the stored picture
 */
export function drawInstances(context, instances, highlighted, scale) {
  if (!instances.length) return;
  context.save();
  context.globalAlpha = highlighted ? DIMMED : 1;
  context.drawImage(layerOf(instances, context.canvas, scale), 0, 0);
  context.globalAlpha = 1;
  if (highlighted) drawInstance(context, highlighted, scale, HIGHLIGHT_OPACITY);
  context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  if (highlighted) {
    drawFrame(context, highlighted.box, scale, colourOf(highlighted.number));
    label(context, highlighted, scale, [], [highlighted.text ?? ""]);
  } else {
    /** @type {Box[]} */
    const taken = [];
    for (const instance of instances) label(context, instance, scale, taken);
  }
  context.restore();
}

/** @param {Instance[]} instances @param {HTMLCanvasElement} canvas @param {number} scale */
function layerOf(instances, { width, height }, scale) {
  const same = kept.instances.length === instances.length && instances.every((one, index) => one === kept.instances[index]);
  if (same && kept.layer.width === width && kept.layer.height === height) return kept.layer;
  const layer = emptyLayer(width, height);
  // The best last, so that it lies on top.
  for (const instance of instances.toReversed()) drawInstance(contextOf(layer), instance, scale, TINT_OPACITY);
  kept = { instances, layer };
  return layer;
}

/** @param {CanvasRenderingContext2D} context in pixels of the screen @param {Instance} instance @param {number} scale @param {number} opacity */
function drawInstance(context, { number, shape }, scale, opacity) {
  if (!shape) return;
  const zoom = (scale * devicePixelRatio) / shape.scale;
  const margin = Math.ceil(OUTLINE * devicePixelRatio) + 1;
  const layer = emptyLayer(Math.ceil(shape.width * zoom) + 2 * margin, Math.ceil(shape.height * zoom) + 2 * margin);
  contextOf(layer).drawImage(stencil(shape), margin, margin, shape.width * zoom, shape.height * zoom);
  const colour = colourOf(number);
  context.drawImage(outlined(recoloured(layer, colour), colour, opacity), shape.left * zoom - margin, shape.top * zoom - margin);
}

/** @param {Shape} shape @returns {HTMLCanvasElement} opaque inside, transparent outside */
function stencil({ alpha, width, height }) {
  const image = new ImageData(width, height);
  for (let index = 0; index < alpha.length; index++) image.data[4 * index + 3] = alpha[index];
  const layer = emptyLayer(width, height);
  contextOf(layer).putImageData(image, 0, 0);
  return layer;
}

/** @param {CanvasRenderingContext2D} context @param {Box} box @param {number} scale @param {string} colour */
function drawFrame(context, box, scale, colour) {
  const [x1, y1, x2, y2] = box.map((value) => value * scale);
  strokeTwice(context, () => context.rect(x1, y1, x2 - x1, y2 - y1), [2, 3], colour);
}

/**
 * Draws number and score above the instance, unless they would cover another tag.
 *
 * @param {CanvasRenderingContext2D} context in CSS pixels
 * @param {Instance} instance
 * @param {number} scale
 * @param {Box[]} taken where tags are; the new one is added
 * @param {string[]} words between number and score
 */
function label(context, { number, score, box, shape }, scale, taken, words = []) {
  const text = [number, ...words.filter(Boolean), score.toFixed(2)].join("  ");
  const width = tagWidth(context, text);
  const [left, top] = shape ? summit(shape) : box;
  const { clientWidth, clientHeight } = context.canvas;
  const x = Math.max(0, Math.min(left * scale, clientWidth - width));
  const y = Math.max(0, Math.min(top * scale - TAG_HEIGHT - OUTLINE, clientHeight - TAG_HEIGHT));
  if (taken.some(([x1, y1, x2, y2]) => x < x2 && y < y2 && x + width > x1 && y + TAG_HEIGHT > y1)) return;
  taken.push([x, y, x + width, y + TAG_HEIGHT]);
  drawTag(context, text, colourOf(number), x, y);
}

/** The leftmost of the highest pixels, in pixels of the stored picture. @param {Shape} shape */
function summit({ alpha, left, top, scale }) {
  return [(left + alpha.findIndex(Boolean)) / scale, top / scale];
}
