// The view of a tagger: the text with what it marks.

import {clearText, debounce, el, number, setText} from './dom.js';
import {tokenView} from './token_view.js';

export function tagView(page) {
  const {client, bundle} = page;
  const field = el('textarea', {id: 'text', rows: 6, maxLength: 100_000});
  const marked = el('div', {class: 'marked spans', 'aria-live': 'polite'});
  const note = el('p', {class: 'quiet'});
  const table = el('tbody');
  const tokens = tokenView(page);
  const kinds = [...new Set(bundle.labels.map((name) => name.replace(/^[BI]-/, '')))];
  let running = null;
  let round = 0;

  async function mark() {
    const own = (round += 1);
    running?.stop();
    const text = field.value;
    tokens.show(text);
    if (!text.trim()) {
      marked.replaceChildren();
      table.replaceChildren();
      clearText(note);
      return;
    }
    try {
      running = client.ask('answer', {text});
      const {answer: {spans}, seconds} = await running.answer;
      if (own !== round) return;
      show(text, spans);
      page.showStatus('tagged', {count: spans.length, milliseconds: number(1000 * seconds, 1)});
    } catch (error) {
      if (own === round) page.showError(error);
    }
  }

  function show(text, spans) {
    const characters = Array.from(text);
    const line = el('p', {});
    let end = 0;
    for (const span of spans) {
      const look = `c${kinds.indexOf(span.label) % 5}`;
      line.append(characters.slice(end, span.start).join(''),
        el('mark', {class: look}, span.text, el('small', {}, span.label)));
      end = span.end;
    }
    line.append(characters.slice(end).join(''));
    marked.replaceChildren(line);
    setText(note, spans.length ? 'spans note' : 'no spans');
    table.replaceChildren(...spans.map(({text: said, label, probability}) => el('tr', {},
      el('th', {scope: 'row'}, said), el('td', {}, label),
      el('td', {}, `${number(100 * probability, 1)} %`))));
  }

  field.addEventListener('input', debounce(mark, 150));
  const element = el('section', {}, el('label', {for: 'text', say: 'text'}), field,
    el('h2', {say: 'spans'}), note, marked,
    el('details', {}, el('summary', {say: 'spans as table'}),
      el('div', {class: 'scroll', tabIndex: 0, role: 'region', label: 'spans as table'},
        el('table', {}, el('thead', {}, el('tr', {}, el('th', {scope: 'col', say: 'word'}),
          el('th', {scope: 'col', say: 'label'}),
          el('th', {scope: 'col', say: 'probability'}))), table))),
    tokens.element);
  return {
    element,
    ready() {
      if (!field.value) field.value = bundle.examples[0] ?? '';
      field.focus();
      mark();
    },
  };
}
