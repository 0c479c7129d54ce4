// @ts-check
/**
 * Shows pictures as stored. Browsers apply the EXIF orientation that cameras write, even with
 * `imageOrientation: "none"`. The server does not apply it, and a click must mean the same pixel for both.
 */

const TAG = 0x0112;
const SHORT = 3;
const UPRIGHT = 1;

/**
 * Returns the picture with its EXIF orientation reset, so that browsers do not turn it. (In a PNG, the changed chunk no
 * longer matches its checksum and decoders skip it, which has the same effect.)
 *
 * @param {Blob} file
 * @returns {Promise<Blob>} the file itself if it has no orientation
 */
export async function unturned(file) {
  const view = new DataView(await file.arrayBuffer());
  const place = findOrientation(view);
  if (!place) return file;
  view.setUint16(place.offset, UPRIGHT, place.littleEndian);
  return new Blob([view], { type: file.type });
}

/** @typedef {{offset: number, littleEndian: boolean}} Value offset and byte order of a 16-bit value */

/** @param {DataView} view @returns {Value | null} */
function findOrientation(view) {
  // "Exif" in JPEG, "eXIf" in PNG, "EXIF" in WebP; the TIFF header follows directly, or after a length or two zeros.
  for (let offset = 0; offset < view.byteLength - 16; offset++) {
    if ((view.getUint32(offset) | 0x20202020) !== 0x65786966) continue;
    for (let gap = 4; gap <= 14; gap += 2) {
      const value = valueIn(view, offset + gap);
      if (value) return value;
    }
  }
  return null;
}

/** The orientation in the TIFF structure that begins at `start`. @param {DataView} view @param {number} start */
function valueIn(view, start) {
  try {
    const header = view.getUint32(start);
    const littleEndian = header === 0x49492a00;
    if (!littleEndian && header !== 0x4d4d002a) return null;
    const directory = start + view.getUint32(start + 4, littleEndian);
    const entries = view.getUint16(directory, littleEndian);
    for (let entry = directory + 2; entry < directory + 2 + 12 * entries; entry += 12) {
      const [tag, type] = [view.getUint16(entry, littleEndian), view.getUint16(entry + 2, littleEndian)];
      if (tag === TAG && type === SHORT) return { offset: entry + 8, littleEndian };
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // an offset beyond the end of the file
  }
  return null;
}
