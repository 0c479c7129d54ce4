// @ts-check
/** Masks of instances as shapes: small enough to keep hundreds, even of large pictures. */

/** @typedef {import("./drawing.js").Place} Place */
/**
 * @typedef {object} Shape
 * @property {Uint8Array} alpha 0 outside to 255 inside, row by row
 * @property {number} width of `alpha`, which covers only the mask's bounding box
 * @property {number} height
 * @property {number} left position in the reduced picture
 * @property {number} top
 * @property {number} scale reduced picture / stored picture, at most 1
 * @property {number} area in pixels of the reduced picture
 */

/** The longest side of the reduced picture, in pixels. Finer detail is not visible on the page. */
const LONGEST = 1024;

/**
 * Decodes a mask.
 *
 * @param {Blob} png grey, 0 outside and 255 inside, of the picture's size
 * @param {{width: number, height: number}} picture
 * @returns {Promise<Shape | null>} null if the mask is empty
 */
export async function shapeOf(png, picture) {
  const scale = Math.min(1, LONGEST / Math.max(picture.width, picture.height));
  const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
  const bitmap = await createImageBitmap(png, { resizeWidth: width, resizeHeight: height, resizeQuality: "medium" });
  const canvas = new OffscreenCanvas(width, height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return cropped(context.getImageData(0, 0, width, height), scale);
}

/** Whether a pixel of the picture is in the shape. @param {Shape} shape @param {Place} place */
export function contains({ alpha, width, height, left, top, scale }, { x, y }) {
  const [column, row] = [Math.floor((x + 0.5) * scale) - left, Math.floor((y + 0.5) * scale) - top];
  return column >= 0 && row >= 0 && column < width && row < height && alpha[row * width + column] > 127;
}

/** @param {ImageData} image @param {number} scale @returns {Shape | null} */
function cropped({ data, width, height }, scale) {
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (!data[4 * (row * width + column)]) continue;
      left = Math.min(left, column);
      right = Math.max(right, column + 1);
      top = Math.min(top, row);
      bottom = row + 1;
    }
  }
  if (right <= left) return null;
  const alpha = new Uint8Array((right - left) * (bottom - top));
  for (let row = top, index = 0; row < bottom; row++) {
    for (let column = left; column < right; column++) alpha[index++] = data[4 * (row * width + column)];
  }
  const area = alpha.reduce((sum, value) => sum + value, 0) / 255;
  return { alpha, width: right - left, height: bottom - top, left, top, scale, area };
}
