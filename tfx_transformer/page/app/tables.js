// CSV and TSV files that are dropped onto the page.

/**
 * {header: names, rows: lists of cells}, of a table with a header; a file of another name is a text
 * a line, without one.
 *
 * Cells may be quoted, with "" for a quote; a quoted cell may hold line ends (RFC 4180).
 */
export function readTable(text, name) {
  text = text.replace(/^\ufeff/, '');
  if (!/\.(csv|tsv)$/i.test(name)) {
    return {header: ['text'], rows: text.split(/\r?\n/).filter(Boolean).map((line) => [line])};
  }
  const [header, ...rows] = cells(text, separatorOf(text, name));
  if (!header || !rows.length) throw new Error(name);
  return {header, rows: rows.filter((row) => row.length > 1 || row[0] !== '')};
}

/** The separator that gives the most cells in the first line. */
function separatorOf(text, name) {
  if (/\.tsv$/i.test(name)) return '\t';
  const [line] = text.split(/\r?\n/, 1);
  const counts = [',', ';', '\t'].map((sign) => line.split(sign).length);
  return [',', ';', '\t'][counts.indexOf(Math.max(...counts))];
}

function cells(text, separator) {
  const rows = [];
  let row = [];
  let cell = '';
  let quoted = false;
  let begun = false; // true after the quote that begins a cell
  for (let at = 0; at < text.length; at++) {
    const sign = text[at];
    if (quoted) {
      if (sign !== '"') cell += sign;
      else if (text[at + 1] === '"') {
        cell += '"';
        at += 1;
      } else quoted = false;
    } else if (sign === '"' && cell === '' && !begun) {
      [quoted, begun] = [true, true];
    } else if (sign === separator || sign === '\n' || sign === '\r') {
      row.push(cell);
      [cell, begun] = ['', false];
      if (sign === separator) continue;
      if (sign === '\r' && text[at + 1] === '\n') at += 1;
      rows.push(row);
      row = [];
    } else cell += sign;
  }
  if (cell || row.length) rows.push([...row, cell]);
  return rows;
}

/** A table as CSV: cells are quoted where they need it. */
export function toCsv(rows) {
  const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return rows.map((row) => `${row.map(cell).join(',')}\n`).join('');
}

/** [{name, best}] of the columns; the best is called text, or has the longest cells. */
export function columnsOf({header, rows}) {
  const sample = rows.slice(0, 200);
  const lengths = header.map((_, index) =>
    sample.reduce((sum, row) => sum + (row[index] ?? '').length, 0));
  const usual = header.findIndex((name) => /^(text|sentence|source|本文|文)$/i.test(name.trim()));
  const best = usual >= 0 ? usual : lengths.indexOf(Math.max(...lengths));
  return header.map((name, index) => ({name: name || `${index + 1}`, best: index === best}));
}
