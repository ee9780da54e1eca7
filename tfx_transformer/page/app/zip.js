// ZIP archives of files without compression (PKWARE's APPNOTE, 4.3).

const CRC_TABLE = Int32Array.from({length: 256}, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});
const FIRST_DAY = 0x21; // 1 January 1980, as MS-DOS writes it
const UTF8_NAMES = 0x800;

function crc32(bytes) {
  let sum = -1;
  for (const byte of bytes) sum = CRC_TABLE[(sum ^ byte) & 0xff] ^ (sum >>> 8);
  return ~sum >>> 0;
}

/** The bytes of numbers, the lowest byte first: [[number, how many bytes]]. */
function littleEndian(numbers) {
  const bytes = numbers.flatMap(([number, count]) =>
    Array.from({length: count}, (_, place) => (number >>> (8 * place)) & 0xff));
  return Uint8Array.from(bytes);
}

/** The parts of an archive in their order, Uint8Arrays; files: [{name, bytes}]. */
export function zipParts(files) {
  const parts = [];
  const directory = [];
  let place = 0;
  const add = (list, ...arrays) => {
    list.push(...arrays);
    return arrays.reduce((sum, {length}) => sum + length, 0);
  };
  for (const {name, bytes} of files) {
    const path = new TextEncoder().encode(name);
    const common = [[20, 2], [UTF8_NAMES, 2], [0, 2], [0, 2], [FIRST_DAY, 2], [crc32(bytes), 4],
      [bytes.length, 4], [bytes.length, 4], [path.length, 2], [0, 2]];
    directory.push(
      littleEndian([[0x02014b50, 4], [20, 2], ...common, [0, 2], [0, 2], [0, 2], [0, 4], [place, 4]]),
      path);
    place += add(parts, littleEndian([[0x04034b50, 4], ...common]), path, bytes);
  }
  const size = add(parts, ...directory);
  parts.push(littleEndian([[0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2],
    [size, 4], [place, 4], [0, 2]]));
  return parts;
}
