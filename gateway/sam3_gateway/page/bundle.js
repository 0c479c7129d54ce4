// @ts-check
/** The masks of several instances in one ZIP file. Nothing is compressed: the masks are PNGs. */

/** @typedef {import("./server.js").Instance} Instance */
/** @typedef {{name: Uint8Array, bytes: Uint8Array, sum: number, offset: number}} Entry */

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const UTF8_NAMES = 0x0800;
/** 1 January 1980, the earliest date of the format: equal masks give equal files. */
const DATE = 0x0021;
const SUMS = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? 0xedb88320 ^ (byte >>> 1) : byte >>> 1;
  return byte;
});

/**
 * Packs the masks as the server sent them, and `instances.json` with the text, score and box of each.
 *
 * @param {Instance[]} instances
 * @returns {Promise<Blob>}
 */
export async function bundle(instances) {
  const named = instances.map((instance) => ({ file: nameOf(instance), instance }));
  const list = named.map(({ file, instance: { text, score, box } }) => ({ file, text, score, box }));
  const files = named.map(({ file, instance }) => /** @type {[string, Blob]} */ ([file, instance.png]));
  return zip([["instances.json", new Blob([JSON.stringify(list, null, 2), "\n"])], ...files]);
}

/** @param {Instance} instance */
function nameOf({ number, text }) {
  const words = (text ?? "example").replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40);
  return `${String(number).padStart(3, "0")}_${words}.png`;
}

/** @param {[string, Blob][]} files @returns {Promise<Blob>} */
async function zip(files) {
  /** @type {Entry[]} */
  const entries = [];
  /** @type {Uint8Array[]} */
  const parts = [];
  let offset = 0;
  for (const [name, file] of files) {
    const bytes = new Uint8Array(await file.arrayBuffer());
    const entry = { name: new TextEncoder().encode(name), bytes, sum: checksum(bytes), offset };
    const head = local(entry);
    entries.push(entry);
    parts.push(head, bytes);
    offset += head.length + bytes.length;
  }
  const directory = entries.map(central);
  const size = directory.reduce((sum, { length }) => sum + length, 0);
  const end = record(END, [2, 0], [2, 0], [2, entries.length], [2, entries.length], [4, size], [4, offset], [2, 0]);
  return new Blob(/** @type {BlobPart[]} */ ([...parts, ...directory, end]), { type: "application/zip" });
}

/** @param {Entry} entry */
function local(entry) {
  return joined(record(LOCAL, ...common(entry)), entry.name);
}

/** @param {Entry} entry */
function central(entry) {
  const rest = /** @type {[2 | 4, number][]} */ ([[2, 0], [2, 0], [2, 0], [4, 0], [4, entry.offset]]);
  return joined(record(CENTRAL, [2, 20], ...common(entry), ...rest), entry.name);
}

/** Version, flags, method, time, date, sum, sizes and lengths. @param {Entry} entry @returns {[2 | 4, number][]} */
function common({ name, bytes, sum }) {
  return [[2, 20], [2, UTF8_NAMES], [2, 0], [2, 0], [2, DATE], [4, sum], [4, bytes.length], [4, bytes.length], [2, name.length], [2, 0]];
}

/** @param {number} signature @param {[2 | 4, number][]} fields size in bytes and value of each, little-endian */
function record(signature, ...fields) {
  const bytes = new DataView(new ArrayBuffer(4 + fields.reduce((sum, [size]) => sum + size, 0)));
  bytes.setUint32(0, signature, true);
  let offset = 4;
  for (const [size, value] of fields) {
    if (size === 2) bytes.setUint16(offset, value, true);
    else bytes.setUint32(offset, value, true);
    offset += size;
  }
  return new Uint8Array(bytes.buffer);
}

/** @param {Uint8Array} one @param {Uint8Array} other */
function joined(one, other) {
  const bytes = new Uint8Array(one.length + other.length);
  bytes.set(one);
  bytes.set(other, one.length);
  return bytes;
}

/** CRC-32. @param {Uint8Array} bytes */
function checksum(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = SUMS[(sum ^ byte) & 255] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}
