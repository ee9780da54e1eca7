// "Teach it": a classifier from some examples of each class, on the vectors of an embedder.

import {columnsOf, readTable, toCsv} from './tables.js';
import {el, later, number, tell} from './dom.js';
import {labelBars} from './label_views.js';

/** page: of page.js; prompt: gives the prompt of the texts. Call `ready` with a model loaded. */
export function teachView(page, prompt) {
  const {client, bundle} = page;
  const classes = el('div', {class: 'classes'});
  const bars = labelBars();
  const note = el('p', {class: 'quiet', role: 'status'});
  const attempt = el('input', {type: 'text', id: 'attempt', maxLength: 20_000});
  const file = el('input', {type: 'file', accept: '.csv,.tsv', id: 'examples-file',
    class: 'hidden-file', onchange: () => file.files[0] && readFile(file.files[0])});
  const command = el('pre', {tabIndex: 0, hidden: true});
  let count = 0;
  let round = 0;
  let ready = false;

  function addClass(name = '', examples = []) {
    const id = `class-${(count += 1)}`;
    const field = el('input', {type: 'text', id: `${id}-name`, value: name, hint: 'class hint'});
    const texts = el('textarea', {id, rows: 4, hint: 'examples hint', value: examples.join('\n')});
    const fieldset = el('div', {class: 'class', role: 'group', label: 'class'},
      el('div', {class: 'row'}, el('label', {for: field.id, say: 'class'}),
        el('button', {type: 'button', class: 'plain', say: 'remove', onclick: () => {
          fieldset.remove();
          soon();
        }})),
      field, el('label', {for: id, say: 'examples'}), texts);
    for (const one of [field, texts]) one.addEventListener('input', soon);
    classes.append(fieldset);
  }

  /** [{text, label}] of all classes with a name. */
  function examples() {
    return [...classes.children].flatMap((one) => {
      const label = one.querySelector('input').value.trim();
      const lines = one.querySelector('textarea').value.split('\n').map((line) => line.trim());
      return label ? lines.filter(Boolean).map((text) => ({text, label})) : [];
    });
  }

  async function train() {
    const own = (round += 1);
    ready = false;
    const given = examples();
    const labels = [...new Set(given.map(({label}) => label))];
    if (labels.length < 2) {
      tell(note, 'teach more');
      bars.clear();
      return;
    }
    try {
      const request = {
        texts: given.map(({text}) => text),
        labels: given.map(({label}) => labels.indexOf(label)),
        names: labels,
        prompt: prompt(),
      };
      const {answer, seconds} = await client.ask('teach', request).answer;
      if (own !== round) return;
      ready = true;
      tell(note, 'taught', {
        count: given.length,
        classes: labels.length,
        seconds: number(seconds, 2),
        right: number(100 * answer.right, 0),
      });
      await recognize();
    } catch (error) {
      if (own === round) page.showError(error);
    }
  }

  async function recognize() {
    if (!ready || !attempt.value.trim()) {
      bars.clear();
      return;
    }
    try {
      const {answer} = await client.ask('recognize', {text: attempt.value, prompt: prompt()}).answer;
      bars.show(answer);
    } catch (error) {
      page.showError(error);
    }
  }

  async function readFile(blob) {
    try {
      const {header, rows} = readTable(await blob.text(), blob.name);
      const index = header.findIndex((name) => /^(label|class|category|ラベル|分類)$/i.test(name.trim()));
      const last = index >= 0 ? index : header.length - 1;
      const first = columnsOf({header, rows}).findIndex(({best}, place) => best && place !== last);
      const byLabel = Map.groupBy(rows, (row) => row[last] ?? '');
      if (header.length < 2 || first < 0 || byLabel.size > 50) throw new Error(blob.name);
      classes.replaceChildren();
      for (const [label, found] of byLabel) {
        addClass(label, found.map((row) => (row[first] ?? '').replaceAll(/\s*\n\s*/g, ' ')));
      }
      await train();
    } catch (error) {
      page.showStatus('no examples', {detail: error.message}, true);
    }
  }

  function save() {
    const name = `${bundle.name}-examples.csv`;
    const given = examples();
    const table = toCsv([['text', 'label'], ...given.map(({text, label}) => [text, label])]);
    const address = URL.createObjectURL(new Blob([table], {type: 'text/csv'}));
    el('a', {href: address, download: name}).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
    command.hidden = false;
    command.textContent =
      `tfx-transformer run text_classification --csv ${quoted(name)} --base ` +
      `${quoted(`saved_models/${bundle.name}`)} --name ${quoted(`${bundle.name}-taught`)}`;
    tell(note, 'saved examples');
  }

  const soon = later(train, 400);
  attempt.addEventListener('input', later(recognize, 150));
  addClass();
  addClass();
  const element = el('details', {class: 'teach'}, el('summary', {say: 'teach'}),
    el('p', {class: 'quiet', say: 'teach note'}), classes,
    el('div', {class: 'row'},
      el('button', {type: 'button', class: 'plain', say: 'add class', onclick: () => addClass()}),
      el('span', {}, file,
        el('label', {for: file.id, class: 'button', say: 'examples from a table'})),
      el('button', {type: 'button', class: 'plain', say: 'save examples', onclick: save})),
    note, command,
    el('label', {for: 'attempt', say: 'try it'}), attempt, bars.element);
  return {element, ready: train};
}

/** A name as a shell reads it. */
function quoted(name) {
  return /^[\w./-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`;
}
