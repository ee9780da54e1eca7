// The view of a classifier of texts or a regressor, with the words that mattered.

import {labelBars} from './bars.js';
import {debounce, el, languageOf, number, setText} from './dom.js';
import {tokenView} from './token_view.js';

/** One number, in the units of the data. */
function oneNumber() {
  const element = el('p', {class: 'number', 'aria-live': 'polite'});
  return {
    element,
    show({value}) {
      element.textContent = readable(value);
    },
    clear() {
      element.replaceChildren();
    },
  };
}

/** A number with four significant digits. */
function readable(value) {
  return value.toLocaleString(languageOf(), {maximumSignificantDigits: 4});
}

/**
 * The texts with each piece coloured by what it did for the label, or the number; and a table of
 * the same.
 *
 * shown(weight): the weight as text.
 */
function wordsThatMattered(shown) {
  const lead = el('p', {class: 'quiet'});
  const marked = el('div', {class: 'marked'});
  const table = el('tbody');
  const element = el('section', {class: 'words', hidden: true},
    el('h2', {say: 'words'}), lead, marked,
    el('details', {}, el('summary', {say: 'words as table'}),
      el('div', {class: 'scroll', tabIndex: 0, role: 'region', label: 'words as table'},
        el('table', {}, el('thead', {}, el('tr', {}, el('th', {scope: 'col', say: 'word'}),
          el('th', {scope: 'col', say: 'weight'}))), table))));
  return {
    element,
    show(texts, pieces, label) {
      element.hidden = !pieces.length;
      if (label === undefined) setText(lead, 'words note of a number');
      else setText(lead, 'words note', {label});
      const largest = Math.max(1e-6, ...pieces.map(({weight}) => Math.abs(weight)));
      marked.replaceChildren(...texts.map((text, column) => {
        const line = el('p', {});
        let end = 0;
        for (const piece of pieces.filter((one) => one.column === column)) {
          const share = piece.weight / largest;
          const mark = el('mark', {class: share >= 0 ? 'for' : 'against',
            title: shown(piece.weight)}, text.slice(piece.start, piece.end));
          mark.style.setProperty('--share', Math.abs(share) < 0.04 ? 0 : Math.abs(share));
          line.append(text.slice(end, piece.start), mark);
          end = piece.end;
        }
        line.append(text.slice(end));
        return line;
      }));
      const ranked = [...pieces].sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
      table.replaceChildren(...ranked.map((piece) => el('tr', {},
        el('th', {scope: 'row'}, texts[piece.column].slice(piece.start, piece.end)),
        el('td', {}, shown(piece.weight)))));
    },
    hide() {
      element.hidden = true;
    },
  };
}

/** "+12.3": points of probability. */
function points(weight) {
  return `${weight >= 0 ? '+' : '−'}${number(Math.abs(100 * weight), 1)}`;
}

/** "+0.25": a number with its sign. */
function signed(value) {
  return `${value >= 0 ? '+' : '−'}${readable(Math.abs(value))}`;
}

/**
 * Classifies while one types, or gives a number; of a model of several columns there is a field for
 * each.
 */
export function textView(page) {
  const {client, bundle} = page;
  const fields = Array.from({length: bundle.columns.length || 1}, (_, index) =>
    el('textarea', {id: `text-${index}`, rows: bundle.columns.length > 1 ? 3 : 5,
      maxLength: 100_000}));
  const isNumber = bundle.kind === 'number';
  const bars = isNumber ? oneNumber() : labelBars();
  const words = wordsThatMattered(isNumber ? signed : points);
  const tokens = tokenView(page);
  const notice = el('p', {class: 'notice', role: 'status'});
  let running = null;
  let round = 0;

  async function classify() {
    const own = (round += 1);
    running?.stop();
    const texts = fields.map(({value}) => value);
    tokens.show(texts.join('\n'));
    words.hide();
    if (!texts.some((text) => text.trim())) {
      bars.clear();
      return;
    }
    try {
      running = client.ask('answer', {texts});
      const {answer, seconds} = await running.answer;
      if (own !== round) return;
      bars.show(answer);
      if (answer.cut) setText(notice, 'cut', {tokens: answer.cut});
      else notice.replaceChildren();
      page.showStatus('classified', {milliseconds: number(1000 * seconds, 1)});
      const {id, label} = isNumber ? {} : answer.ranked[0];
      running = client.ask('explain', {texts, label: id});
      const {answer: pieces} = await running.answer;
      if (own === round) words.show(texts, pieces, label);
    } catch (error) {
      if (own === round) page.showError(error);
    }
  }

  const several = bundle.severalLabels ? 'labels' : 'label';
  const title = isNumber ? 'number' : several;
  const soon = debounce(classify, 150);
  const named = fields.map((field, index) => {
    field.addEventListener('input', soon);
    const label = el('label', {for: field.id});
    if (bundle.columns[index]) label.textContent = bundle.columns[index];
    else setText(label, 'text');
    return el('div', {}, label, field);
  });
  const element = el('section', {class: 'pair'}, el('div', {}, ...named, notice),
    el('div', {}, el('h2', {say: title}), bars.element),
    el('div', {class: 'wide'}, words.element, tokens.element));
  return {
    element,
    ready() {
      if (!fields[0].value) fields.forEach((one, index) => (one.value = bundle.examples[index] ?? ''));
      fields[0].focus();
      classify();
    },
  };
}
