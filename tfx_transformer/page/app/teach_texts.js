// "Teach it" with texts.

import {debounce, el} from './dom.js';
import {fileButton, quoted, saveFile} from './files.js';
import {columnsOf, readTable, toCsv} from './tables.js';
import {teachView} from './teach_view.js';

const LABEL_COLUMN = /^(label|class|category|ラベル|分類)$/i;
const MOST_CLASSES = 50;

let count = 0; // of fields

/** The field of a class: a text a line. */
function textField(changed) {
  const id = `examples-${(count += 1)}`;
  const field = el('textarea', {id, rows: 4, hint: 'examples hint', oninput: changed});
  return {
    element: el('div', {}, el('label', {for: id, say: 'examples'}), field),
    examples: () => field.value.split('\n').map((line) => line.trim()).filter(Boolean),
    add: (texts) => (field.value = texts.join('\n')),
  };
}

/** [[label, texts]] of a table; its texts become one line each. */
function examplesOf({header, rows}, name) {
  const named = header.findIndex((column) => LABEL_COLUMN.test(column.trim()));
  const label = named >= 0 ? named : header.length - 1;
  const text = columnsOf({header, rows}).findIndex(({best}, place) => best && place !== label);
  const byLabel = Map.groupBy(rows, (row) => row[label] ?? '');
  if (header.length < 2 || text < 0 || byLabel.size > MOST_CLASSES) throw new Error(name);
  return [...byLabel].map(([one, found]) =>
    [one, found.map((row) => (row[text] ?? '').replaceAll(/\s*\n\s*/g, ' '))]);
}

/**
 * Returns {element, train}. Call `train` when a model is loaded, and when the prompt has changed.
 *
 * vectors(texts) promises a vector for each; prompt(): the prompt before each text, or ''.
 */
export function teachTexts(page, vectors, prompt) {
  const {bundle} = page;
  const attempt = el('input', {type: 'text', id: 'attempt', maxLength: 20_000,
    oninput: debounce(recognize, 150)});

  async function recognize() {
    const text = attempt.value;
    try {
      const [vector] = text.trim() ? await vectors([text]) : [null];
      if (attempt.value === text) await teach.recognize(vector);
    } catch (error) {
      page.showError(error);
    }
  }

  async function readFile(file) {
    let found;
    try {
      found = examplesOf(readTable(await file.text(), file.name), file.name);
    } catch (error) {
      page.showStatus('no examples', {most: MOST_CLASSES, detail: error.message}, true);
      return;
    }
    await teach.setClasses(found);
  }

  async function save(classes) {
    const rows = classes.flatMap(([label, texts]) => texts.map((text) => [text, label]));
    const table = toCsv([['text', 'label'], ...rows]);
    const name = `${bundle.name}-examples.csv`;
    saveFile(new Blob([table], {type: 'text/csv'}), name);
    return `tfx-transformer run text_classification --csv ${quoted(name)} --base ` +
      `${quoted(`saved_models/${bundle.name}`)} --name ${quoted(`${bundle.name}-taught`)}`;
  }

  const teach = teachView(page, {
    field: textField,
    vectors,
    save,
    note: 'teach note',
    saveText: 'save examples',
    prompt,
    buttons: [fileButton('examples-file', 'examples from a table', '.csv,.tsv',
      ([file]) => readFile(file))],
  });
  teach.element.append(el('label', {for: 'attempt', say: 'try it'}), attempt, teach.answer);
  return {
    element: teach.element,
    async train() {
      await teach.train();
      await recognize();
    },
  };
}
