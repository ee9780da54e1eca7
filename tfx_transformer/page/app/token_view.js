// The tokens of a text, coloured.

import {el, later, tell} from './dom.js';

const COLOURS = 5;

/** A part that opens: call `show(text)` when the text changes. */
export function tokenView({client, showError}) {
  const summary = tell(el('summary', {}), 'tokens');
  const list = el('p', {class: 'tokens'});
  let last = '';
  const draw = later(async () => {
    if (!details.open) return;
    try {
      const {answer} = await client.ask('tokens', {text: last}).answer;
      tell(summary, 'tokens of', {count: answer.length});
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

/** Blanks that would be lost between two colours. */
function visible(text) {
  return text.replaceAll('\n', '⏎').replaceAll('\t', '⇥').replaceAll(' ', '·').replaceAll('\u3000', '□');
}
