// @ts-check
/** Draws the picture, masks and prompts, in pixels of the screen, so that lines are sharp. */

import { drawInstances } from "./instance_drawing.js";
import { contextOf, drawTag, emptyLayer, outlined, strokeTwice, TAG_HEIGHT } from "./layers.js";

/** @typedef {import("./server.js").Box} Box */
/** @typedef {import("./server.js").Candidate} Candidate */
/** @typedef {import("./server.js").Example} Example */
/** @typedef {import("./server.js").Instance} Instance */
/** @typedef {import("./server.js").Point} Point */
/** @typedef {{x: number, y: number}} Place pixels of the stored image */
/**
 * @typedef {object} View
 * @property {ImageBitmap} picture
 * @property {Candidate | undefined} candidate
 * @property {Instance[]} instances
 * @property {Instance | null} highlighted one of the instances
 * @property {Example[]} examples
 * @property {Point[]} points
 * @property {Box | null} box
 * @property {Place | null} crosshair
 */

const TINT = [38, 132, 255];
const TINT_OPACITY = 0.5;
const FOREGROUND = "#0a7a41";
const BACKGROUND = "#c02031";
/** Lines of examples: lighter, because they lie on dark. */
const MORE = "#6fe3a1";
const NOT = "#ff9aa3";
const MARK_RADIUS = 9;

/** @typedef {{layer: HTMLCanvasElement, width: number, height: number}} Overlay */
/** @type {WeakMap<Candidate, Overlay>} */
const overlays = new WeakMap();

/** @param {HTMLCanvasElement} canvas @param {View} view */
export function draw(canvas, view) {
  const context = fit(canvas);
  const { width, height } = canvas;
  context.drawImage(view.picture, 0, 0, width, height);
  if (view.candidate) context.drawImage(overlayOf(view.candidate, width, height), 0, 0);
  const scale = canvas.clientWidth / view.picture.width;
  drawInstances(context, view.instances, view.highlighted, scale);
  // From here on, use CSS pixels, so that marks have the same size on every screen.
  context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  for (const [index, example] of view.examples.entries()) drawExample(context, example, index + 1, scale);
  if (view.box) drawBox(context, view.box, scale);
  for (const point of view.points) drawMark(context, point, scale);
  if (view.crosshair) drawCrosshair(context, view.crosshair, scale, canvas);
}

/**
 * Draws a small picture of one candidate.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {ImageBitmap} picture
 * @param {Candidate} candidate
 */
export function drawThumbnail(canvas, picture, candidate) {
  const context = fit(canvas);
  const scale = Math.min(canvas.width / picture.width, canvas.height / picture.height);
  const [width, height] = [Math.max(1, picture.width * scale), Math.max(1, picture.height * scale)].map(Math.round);
  context.translate(Math.round((canvas.width - width) / 2), Math.round((canvas.height - height) / 2));
  context.globalAlpha = 0.55;
  context.drawImage(picture, 0, 0, width, height);
  context.globalAlpha = 1;
  context.drawImage(silhouette(candidate.bitmap, width, height), 0, 0);
}

/** The fraction of the picture that a mask covers, from 0 to 1. @param {ImageBitmap} mask */
export function coverage(mask) {
  const { data } = pixels(mask, Math.min(mask.width, 256), Math.min(mask.height, 256));
  let sum = 0;
  for (let index = 0; index < data.length; index += 4) sum += data[index];
  return sum / 255 / (data.length / 4);
}

/** Resizes the canvas to its size in pixels of the screen, and clears it. @param {HTMLCanvasElement} canvas */
function fit(canvas) {
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * devicePixelRatio));
  return contextOf(canvas);
}

/** The candidate tinted and outlined. Cached, because a drag or a crosshair redraws it often. */
function overlayOf(/** @type {Candidate} */ candidate, /** @type {number} */ width, /** @type {number} */ height) {
  const kept = overlays.get(candidate);
  if (kept?.width === width && kept.height === height) return kept.layer;
  const layer = outlined(silhouette(candidate.bitmap, width, height), "white", TINT_OPACITY);
  overlays.set(candidate, { layer, width, height });
  return layer;
}

/** The mask in the tint's colour on a transparent ground. @param {ImageBitmap} mask @param {number} width @param {number} height */
function silhouette(mask, width, height) {
  const image = pixels(mask, width, height);
  for (let index = 0; index < image.data.length; index += 4) {
    image.data[index + 3] = image.data[index]; // the mask is grey, 0 outside and 255 inside
    image.data.set(TINT, index);
  }
  const layer = emptyLayer(width, height);
  contextOf(layer).putImageData(image, 0, 0);
  return layer;
}

/** @param {ImageBitmap} bitmap @param {number} width @param {number} height */
function pixels(bitmap, width, height) {
  const context = contextOf(emptyLayer(width, height), { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/** @param {CanvasRenderingContext2D} context @param {Box} box @param {number} scale */
function drawBox(context, box, scale) {
  const [x1, y1, x2, y2] = box.map((value) => value * scale);
  strokeTwice(context, () => context.rect(x1, y1, x2 - x1, y2 - y1), [6, 4]);
}

/** @param {CanvasRenderingContext2D} context @param {Example} example @param {number} number @param {number} scale */
function drawExample(context, { box, label }, number, scale) {
  const [x1, y1, x2, y2] = box.map((value) => value * scale);
  const colour = label ? MORE : NOT;
  strokeTwice(context, () => context.rect(x1, y1, x2 - x1, y2 - y1), [], colour);
  drawTag(context, `Box ${number}`, colour, x1 + MARK_RADIUS - 2, y1 - TAG_HEIGHT / 2);
  drawMark(context, { x: box[0], y: box[1], label }, scale);
}

/** @param {CanvasRenderingContext2D} context @param {Point} point @param {number} scale */
function drawMark(context, point, scale) {
  const [x, y] = centre(point, scale);
  context.beginPath();
  context.arc(x, y, MARK_RADIUS, 0, 2 * Math.PI);
  context.fillStyle = point.label ? FOREGROUND : BACKGROUND;
  context.fill();
  context.lineWidth = 2;
  context.strokeStyle = "white";
  context.stroke();
  // Plus and minus, for people who cannot distinguish the colours.
  context.beginPath();
  context.moveTo(x - 4, y);
  context.lineTo(x + 4, y);
  if (point.label) {
    context.moveTo(x, y - 4);
    context.lineTo(x, y + 4);
  }
  context.stroke();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Place} place
 * @param {number} scale
 * @param {HTMLCanvasElement} canvas
 */
function drawCrosshair(context, place, scale, canvas) {
  const [x, y] = centre(place, scale);
  strokeTwice(context, () => {
    context.moveTo(0, y);
    context.lineTo(canvas.clientWidth, y);
    context.moveTo(x, 0);
    context.lineTo(x, canvas.clientHeight);
  });
}

/** The middle of a pixel, in CSS pixels. @param {Place} place @param {number} scale */
function centre({ x, y }, scale) {
  return [(x + 0.5) * scale, (y + 0.5) * scale];
}
