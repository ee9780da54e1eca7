// Views of classifiers: of texts, with the words that mattered, and of images.

import {el, languageOf, later, number, tell} from './dom.js';
import {tokenView} from './token_view.js';

const MOST_BARS = 12;

/** The labels with their probabilities, the most probable first. */
export function labelBars() {
  const list = el('ol', {class: 'bars', 'aria-live': 'polite'});
  const more = el('p', {class: 'quiet'});
  return {
    element: el('div', {}, list, more),
    show({ranked, labels}) {
      const chosen = new Set(labels.map(({id}) => id));
      list.replaceChildren(...ranked.slice(0, MOST_BARS).map(({label, probability, id}) => {
        const percent = `${number(100 * probability, 1)} %`;
        const bar = el('span', {class: 'bar', 'aria-hidden': 'true'});
        bar.style.setProperty('--share', probability);
        return el('li', {class: chosen.has(id) ? 'chosen' : ''},
          el('span', {class: 'name'}, label), ' ', el('span', {class: 'percent'}, percent), bar);
      }));
      const left = ranked.length - MOST_BARS;
      if (left > 0) tell(more, 'more labels', {count: left});
      else more.replaceChildren();
    },
    clear() {
      list.replaceChildren();
      more.replaceChildren();
    },
  };
}

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

/** Four digits that count. */
function readable(value) {
  return value.toLocaleString(languageOf(), {maximumSignificantDigits: 4});
}

/**
 * The texts with each piece coloured by what it did for the label, or the number; and a table of
 * the same.
 *
 * shown: what is written of a weight.
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
      if (label === undefined) tell(lead, 'words note of a number');
      else tell(lead, 'words note', {label});
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
      if (answer.cut) tell(notice, 'cut', {tokens: answer.cut});
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
  const soon = later(classify, 150);
  const named = fields.map((field, index) => {
    field.addEventListener('input', soon);
    const label = el('label', {for: field.id});
    if (bundle.columns[index]) label.textContent = bundle.columns[index];
    else tell(label, 'text');
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

/** Classifies a picture that is chosen, dropped, pasted or seen by the camera. */
export function imageView(page) {
  const {client} = page;
  const bars = labelBars();
  const canvas = el('canvas', {role: 'img', label: 'picture', hidden: true});
  const video = el('video', {muted: true, playsInline: true, hidden: true, label: 'camera'});
  const file = el('input', {type: 'file', accept: 'image/*', id: 'file', class: 'hidden-file',
    onchange: () => file.files[0] && read(file.files[0])});
  const camera = el('button', {type: 'button', class: 'plain', say: 'camera', onclick: toggle});
  const drop = el('div', {class: 'drop'}, el('p', {say: 'drop picture'}), canvas, video);
  let stream = null;

  async function read(blob) {
    await stopCamera();
    try {
      const bitmap = await createImageBitmap(blob, {colorSpaceConversion: 'none'});
      await classify(bitmap, bitmap.width, bitmap.height);
      bitmap.close();
    } catch (error) {
      if (error.values) page.showError(error);
      else page.showStatus('no picture', {}, true);
    }
  }

  /** source: what a canvas can draw. */
  async function classify(source, width, height) {
    canvas.width = width;
    canvas.height = height;
    canvas.hidden = false;
    const context = canvas.getContext('2d', {willReadFrequently: true});
    context.fillStyle = '#fff'; // what is transparent is laid on white
    context.fillRect(0, 0, width, height);
    context.drawImage(source, 0, 0, width, height);
    const {data} = context.getImageData(0, 0, width, height);
    const pixels = new Uint8Array(width * height * 3);
    for (let at = 0, to = 0; at < data.length; at += 4) {
      pixels[to++] = data[at];
      pixels[to++] = data[at + 1];
      pixels[to++] = data[at + 2];
    }
    const {answer, seconds} = await client.ask('answer', {pixels, width, height}).answer;
    bars.show(answer);
    page.showStatus('classified', {milliseconds: number(1000 * seconds, 1)});
  }

  async function toggle() {
    if (stream) {
      await stopCamera();
      return;
    }
    try {
      stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment'}});
    } catch {
      page.showStatus('no camera', {}, true);
      return;
    }
    tell(camera, 'stop camera');
    video.srcObject = stream;
    video.hidden = false;
    await video.play();
    while (stream) {
      const {videoWidth, videoHeight} = video;
      const scale = Math.min(1, 640 / videoWidth);
      await classify(video, Math.round(videoWidth * scale), Math.round(videoHeight * scale));
      canvas.hidden = true; // the video is seen
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  async function stopCamera() {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    video.hidden = true;
    tell(camera, 'camera');
  }

  drop.addEventListener('dragover', (event) => {
    event.preventDefault();
    drop.classList.add('over');
  });
  drop.addEventListener('dragleave', () => drop.classList.remove('over'));
  drop.addEventListener('drop', (event) => {
    event.preventDefault();
    drop.classList.remove('over');
    const [dropped] = event.dataTransfer.files;
    if (dropped) read(dropped);
  });
  document.addEventListener('paste', (event) => {
    const pasted = [...event.clipboardData.files].find(({type}) => type.startsWith('image/'));
    if (pasted) read(pasted);
  });
  const element = el('section', {class: 'pair'},
    el('div', {}, drop, el('div', {class: 'row'},
      file, el('label', {for: 'file', class: 'button', say: 'choose picture'}), camera)),
    el('div', {}, el('h2', {say: page.bundle.severalLabels ? 'labels' : 'label'}), bars.element));
  return {
    element,
    ready() {
      tell(canvas, 'picture', {}, 'label');
    },
  };
}
