// The tokens of a text, coloured.

import {debounce, el, setText} from './dom.js';

const COLOURS = 5;

/** The folded list of the tokens of a text; call `show(text)` when the text changes. */
export function tokenView({client, showError}) {
  const summary = setText(el('summary', {}), 'tokens');
  const list = el('p', {class: 'tokens'});
  let last = '';
  const draw = debounce(async () => {
    if (!details.open) return;
    try {
      const {answer} = await client.ask('tokens', {text: last}).answer;
      setText(summary, 'tokens of', {count: answer.length});
      list.replaceChildren(...answer.flatMap(([id, text, part], index) => [
        el('span', {
          class: `c${index % COLOURS}${part ? ' part' : ''}`,
          title: `${id}`,
        }, part ? text : visible(text)),
        el('wbr'),
      ]));
    } catch (error) {
      showError(error);
    }
  }, 150);
  const details = el('details', {class: 'tokens-of', ontoggle: draw}, summary,
    el('p', {class: 'quiet', say: 'tokens note'}), list);
  return {
    element: details,
    show(text) {
      last = text;
      draw();
    },
  };
}

/** A text with signs for blanks, which could not be seen between two colours. */
function visible(text) {
  return text.replaceAll('\n', '⏎').replaceAll('\t', '⇥').replaceAll(' ', '·').replaceAll('\u3000', '□');
}
