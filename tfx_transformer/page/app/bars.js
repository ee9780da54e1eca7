// Labels with their probabilities as bars.

import {el, number, setText} from './dom.js';

const MOST_BARS = 12;

/** The labels with their probabilities, the most probable first. */
export function labelBars() {
  const list = el('ol', {class: 'bars', 'aria-live': 'polite'});
  const more = el('p', {class: 'quiet'});
  const nothing = el('p', {class: 'quiet', say: 'no labels'});
  return {
    element: el('div', {}, list, more, nothing),
    /** ranked: [{label, probability, id}]; labels: those of `ranked` that are the answer. */
    show({ranked, labels}) {
      const answered = new Set(labels.map(({id}) => id));
      list.replaceChildren(...ranked.slice(0, MOST_BARS).map(({label, probability, id}) => {
        const percent = `${number(100 * probability, 1)} %`;
        const bar = el('span', {class: 'bar', 'aria-hidden': 'true'});
        bar.style.setProperty('--share', probability);
        return el('li', {class: answered.has(id) ? 'chosen' : ''},
          el('span', {class: 'name'}, label), ' ', el('span', {class: 'percent'}, percent), bar);
      }));
      const left = ranked.length - MOST_BARS;
      if (left > 0) setText(more, 'more labels', {count: left});
      else more.replaceChildren();
      nothing.hidden = true;
    },
    clear() {
      list.replaceChildren();
      more.replaceChildren();
      nothing.hidden = false;
    },
  };
}
