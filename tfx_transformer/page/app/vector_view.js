// The view of an embedder: which of many texts are the most similar to one.

import {debounce, el, languageOfText, number} from './dom.js';
import {acceptDrops, fileButton} from './files.js';
import {columnsOf, readTable} from './tables.js';
import {teachTexts} from './teach_texts.js';
import {tokenView} from './token_view.js';

const MOST_TEXTS = 20_000;
const SHOWN = 10;

/** u . v / (|u| |v|). */
function cosine(one, other) {
  let [product, first, second] = [0, 0, 0];
  for (let index = 0; index < one.length; index++) {
    product += one[index] * other[index];
    first += one[index] ** 2;
    second += other[index] ** 2;
  }
  return first && second ? product / Math.sqrt(first * second) : 0;
}

export function vectorsView(page) {
  const {client, bundle} = page;
  const query = el('input', {type: 'text', id: 'query', value: bundle.examples[0] ?? '', maxLength: 20_000});
  const texts = el('textarea', {id: 'texts', rows: 8, hint: 'texts hint'});
  const column = el('select', {id: 'column', onchange: () => useColumn()});
  const columnRow = el('p', {hidden: true}, el('label', {for: 'column', say: 'column'}), ' ', column);
  const list = el('ol', {class: 'matches', 'aria-live': 'polite'});
  const progress = el('progress', {max: 1, value: 0, hidden: true, label: 'reading texts'});
  const tokens = tokenView(page);
  const prompts = Object.keys(bundle.prompts);
  const kinds = ['query prompt', 'text prompt'].map((name, index) => promptChoice(name, index));
  const teach = teachTexts(page, (examples) => vectors(examples, 1), () =>
    bundle.prompts[kinds[1]?.select.value ?? bundle.defaultPrompt] ?? '');
  const known = new Map(); // vectors of texts, by prompt and text
  let table = null;
  let running = null; // the request of the search; those of "Teach it" are never stopped
  let round = 0;

  /** The choice of the prompt that is put before the query (index 0) or the texts (1). */
  function promptChoice(name, index) {
    if (!prompts.length) return null;
    const changed = () => {
      search();
      if (index === 1) teach.train(); // its examples have the prompt of the texts
    };
    const select = el('select', {id: name.replace(' ', '-'), onchange: changed},
      ...prompts.map((prompt) => el('option', {value: prompt}, prompt)));
    const usual = [['query', 'question'], ['document', 'passage']][index];
    select.value = usual.find((one) => prompts.includes(one)) ?? bundle.defaultPrompt ?? prompts[0];
    return {select, row: el('p', {}, el('label', {for: select.id, say: name}), ' ', select)};
  }

  /** Vectors of texts, each made once. began: gets the request for those that are missing. */
  async function vectors(wanted, kind, began = () => {}) {
    const prompt = kinds[kind]?.select.value ?? null;
    const key = (text) => JSON.stringify([prompt, text]);
    const missing = [...new Set(wanted)].filter((text) => !known.has(key(text)));
    if (missing.length) {
      const show = ({done, of}) => {
        progress.hidden = false;
        progress.value = done / of;
        page.showStatus('embedding', {done: number(done), of: number(of)});
      };
      const request = client.ask('many', {texts: missing, prompt}, {show});
      began(request);
      try {
        const {answer, seconds} = await request.answer;
        answer.forEach((vector, index) => known.set(key(missing[index]), vector));
        if (missing.length > 1) {
          page.showStatus('embedded', {
            count: number(answer.length),
            seconds: number(seconds, 2),
            speed: number(answer.length / seconds),
          });
        }
      } finally {
        progress.hidden = true;
      }
    }
    return wanted.map((text) => known.get(key(text)));
  }

  async function search() {
    const own = (round += 1);
    running?.stop();
    const lines = (table ? table.texts : texts.value.split('\n')).filter((line) => line.trim());
    tokens.show(query.value);
    if (!query.value.trim() || !lines.length) {
      list.replaceChildren();
      return;
    }
    try {
      const began = (request) => (running = request);
      const [asked] = await vectors([query.value], 0, began);
      if (own !== round) return;
      const found = await vectors(lines.slice(0, MOST_TEXTS), 1, began);
      if (own !== round) return;
      const scored = lines.slice(0, MOST_TEXTS)
        .map((text, index) => ({text, score: found[index] ? cosine(asked, found[index]) : -1}))
        .sort((a, b) => b.score - a.score);
      list.replaceChildren(...scored.slice(0, SHOWN).map(({text, score}) => {
        const bar = el('span', {class: 'bar', 'aria-hidden': 'true'});
        bar.style.setProperty('--share', Math.max(0, score));
        return el('li', {}, el('span', {class: 'name', lang: languageOfText(text)}, text), ' ',
          el('span', {class: 'percent'}, number(score, 3)), bar);
      }));
      if (lines.length > MOST_TEXTS) page.showStatus('too many texts', {count: number(MOST_TEXTS)});
    } catch (error) {
      if (own === round) page.showError(error);
    }
  }

  async function readFile(blob) {
    try {
      table = readTable(await blob.text(), blob.name);
    } catch (error) {
      page.showStatus('no table', {detail: error.message}, true);
      return;
    }
    const columns = columnsOf(table);
    column.replaceChildren(...columns.map(({name}, index) => el('option', {value: index}, name)));
    column.value = columns.findIndex(({best}) => best);
    columnRow.hidden = columns.length < 2;
    useColumn();
  }

  function useColumn() {
    const index = Number(column.value);
    table.texts = table.rows.map((row) => row[index] ?? '');
    texts.value = table.texts.slice(0, 200).join('\n');
    texts.readOnly = table.texts.length > 200;
    search();
  }

  for (const field of [query, texts]) field.addEventListener('input', debounce(() => {
    if (field === texts && !texts.readOnly) table = null;
    search();
  }, 200));
  const drop = el('div', {class: 'drop slim'}, el('p', {say: 'drop table'}));
  for (const place of [drop, texts]) acceptDrops(place, ([file]) => readFile(file), drop);
  const element = el('section', {class: 'pair'},
    el('div', {}, el('label', {for: 'query', say: 'query'}), query,
      el('label', {for: 'texts', say: 'texts'}), texts, drop,
      el('div', {class: 'row'},
        fileButton('file', 'choose table', '.csv,.tsv,.txt,text/*', ([file]) => readFile(file))),
      columnRow, ...kinds.map((kind) => kind?.row ?? null)),
    el('div', {}, el('h2', {say: 'most similar'}), progress, list),
    el('div', {class: 'wide'}, tokens.element, teach.element));
  return {
    element,
    ready() {
      if (!texts.value) texts.value = bundle.examples.join('\n');
      query.focus();
      search();
      teach.train();
    },
  };
}
