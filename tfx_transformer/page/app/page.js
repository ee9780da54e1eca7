// The page: finds the view of the bundle's kind, loads the model, and shows how it goes.

import {Client} from './client.js';
import {clearText, el, languageOf, languageOfText, number, setLanguage, setText, useTexts} from './dom.js';
import {imageView} from './image_view.js';
import {textView} from './label_views.js';
import {tagView} from './tag_view.js';
import {vectorsView} from './vector_view.js';
import {chatView, continuationView, translationView} from './writing_views.js';

const VIEWS = {
  translation: translationView,
  continuation: continuationView,
  chat: chatView,
  tags: tagView,
  text: textView,
  image: imageView,
  number: textView,
  vectors: vectorsView,
};

/** The JSON in an element of the page. */
function readData(name) {
  return JSON.parse(document.getElementById(name).textContent);
}

const bundle = readData('bundle');
const client = new Client(bundle);
const language = new URLSearchParams(location.search).get('lang') ?? navigator.language;
useTexts(readData('texts'), language.startsWith('ja') ? 'ja' : 'en');

/** A line below the view: {text: name, values}; an error stays until the next line. */
const status = el('p', {class: 'status', role: 'status'});

function showStatus(name, values = {}, failed = false) {
  status.classList.toggle('failed', failed);
  setText(status, name, values);
}

/** Shows what went wrong; a request that was stopped did not. */
function showError(error) {
  if (error.message === 'stopped') return;
  const known = error.values !== undefined;
  showStatus(known ? error.message : 'fault', known ? error.values : {detail: error.message}, true);
}

const page = {bundle, client, showStatus, showError};

function header() {
  const toggle = el('button', {type: 'button', class: 'plain', say: 'other language', onclick: () => {
    setLanguage(languageOf() === 'ja' ? 'en' : 'ja');
    toggle.lang = languageOf() === 'ja' ? 'en' : 'ja';
  }});
  toggle.lang = languageOf() === 'ja' ? 'en' : 'ja';
  const about = aboutDialog();
  const open = el('button', {type: 'button', class: 'plain', say: 'about', onclick: () => {
    about.showModal();
  }});
  return el('header', {},
    el('div', {}, el('h1', {}, bundle.name), setText(el('p', {class: 'quiet'}), `lead ${bundle.kind}`, {
      size: bundle.size})),
    el('nav', {label: 'page'}, open, toggle), about);
}

/** The model card and the licences, as Python has written them. */
function aboutDialog() {
  const card = el('div', {class: 'card'});
  card.append(document.getElementById('card').content.cloneNode(true));
  card.lang = languageOfText(card.textContent) || 'en';
  const dialog = el('dialog', {label: 'about'},
    el('form', {method: 'dialog'}, el('button', {class: 'plain', say: 'close'})),
    card,
    el('h2', {say: 'how it runs'}),
    processorChoice(),
    setText(el('p', {class: 'quiet'}), 'made with', {version: bundle.version, litert: bundle.litert}),
    el('details', {}, el('summary', {say: 'licences'}),
      document.getElementById('licences').content.cloneNode(true)));
  return dialog;
}

/** CPU or GPU, where the browser has one to offer. */
function processorChoice() {
  const choice = el('p', {}, setText(el('span', {}), 'on cpu'));
  navigator.gpu?.requestAdapter().then((adapter) => {
    if (!adapter) return;
    const select = el('select', {id: 'processor', onchange: () => start(select.value)},
      el('option', {value: 'wasm', say: 'cpu'}), el('option', {value: 'webgpu', say: 'gpu'}));
    choice.replaceChildren(el('label', {for: 'processor', say: 'processor'}), ' ', select,
      el('span', {class: 'quiet', say: 'gpu note'}));
  }, () => {});
  return choice;
}

const view = VIEWS[bundle.kind](page);
const main = el('main', {}, view.element, status);
document.body.prepend(header(), main);
document.title = bundle.name;

async function start(accelerator) {
  main.setAttribute('aria-busy', 'true');
  showStatus('loading');
  const started = performance.now();
  try {
    const used = await client.start(accelerator);
    const processor = used.accelerator === 'webgpu' ? 'ready on gpu' : 'ready on cpu';
    const seconds = (performance.now() - started) / 1000;
    showStatus(processor, {seconds: number(seconds, 1)});
    main.removeAttribute('aria-busy');
    view.ready(used);
    return used.accelerator;
  } catch (error) {
    if (accelerator === 'webgpu') return start('wasm');
    const lost = location.protocol === 'file:' && error instanceof TypeError;
    if (lost) showStatus('needs a server', {}, true);
    else showError(error);
    main.removeAttribute('aria-busy');
    return false;
  }
}

/** For the console and for tests: `await tfx.ask('answer', {text: 'Hello'})`. */
globalThis.tfx = {
  bundle,
  ready: start('wasm'),
  start,
  ask: async (name, request, options) => {
    const {answer} = await client.ask(name, request, {options}).answer;
    return answer;
  },
};
clearText(document.getElementById('no-script'));
document.getElementById('no-script').remove();
