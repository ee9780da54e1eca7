// The view of a classifier of images.

import {labelBars} from './bars.js';
import {el, number, setText} from './dom.js';
import {pictureField} from './pictures.js';
import {teachPictures} from './teach_pictures.js';

/** Classifies a picture that is chosen, dropped, pasted or seen by the camera. */
export function imageView(page) {
  const {client, bundle} = page;
  const bars = labelBars();
  const field = pictureField(page, classify);
  const teach = teachPictures(page, field.current);
  const noVectors = el('details', {hidden: true}, el('summary', {say: 'teach'}),
    setText(el('p', {}), 'no vectors', {name: bundle.name}));

  async function classify(picture) {
    const {answer, seconds} = await client.ask('answer', picture).answer;
    bars.show(answer);
    page.showStatus('classified', {milliseconds: number(1000 * seconds, 1)});
    await teach.recognize(picture);
  }

  teach.element.addEventListener('toggle', async () => {
    const shown = field.current();
    if (!shown) return;
    try {
      await teach.recognize(shown.picture);
    } catch (error) {
      page.showError(error);
    }
  });
  const element = el('section', {class: 'pair'}, field.element,
    el('div', {}, el('h2', {say: bundle.severalLabels ? 'labels' : 'label'}), bars.element,
      teach.answer),
    el('div', {class: 'wide'}, teach.element, noVectors));
  return {
    element,
    ready({features}) {
      teach.element.hidden = !features;
      noVectors.hidden = features;
      if (features) teach.train();
    },
  };
}
