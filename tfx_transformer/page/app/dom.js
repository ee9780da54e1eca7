// Elements and their texts, in English or Japanese.

let texts = {};
let language = 'en';

/** all: of texts.json; first: the language to begin with. */
export function useTexts(all, first) {
  texts = all;
  setLanguage(first);
}

export function languageOf() {
  return language;
}

/**
 * A text by its name, with values filled in: "{count}" is a value, "{count token|tokens}" a value and
 * the word for one or for several.
 */
export function say(name, values = {}) {
  const text = (texts[name] ?? [name, name])[language === 'ja' ? 1 : 0];
  return text.replace(/\{(\w+)(?: (\w+)\|(\w+))?\}/g, (whole, key, one, several) => {
    const value = values[key] ?? whole;
    if (!one) return value;
    return `${value} ${String(value) === '1' ? one : several}`;
  });
}

/** A number as people write it in the language. */
export function number(value, digits = 0) {
  return value.toLocaleString(language, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

export function setLanguage(name) {
  language = name;
  document.documentElement.lang = name;
  for (const node of document.querySelectorAll('[data-say]')) fillTexts(node);
}

// attribute of an element -> entry of `data-say`; "" is its text.
const PLACES = {text: '', label: 'aria-label', hint: 'placeholder', title: 'title'};

function fillTexts(node) {
  const named = JSON.parse(node.dataset.say);
  for (const [place, [name, values]] of Object.entries(named)) {
    const spoken = say(name, values);
    if (PLACES[place]) node.setAttribute(PLACES[place], spoken);
    else node.textContent = spoken;
  }
}

/**
 * Sets a text of the table, which changes with the language.
 *
 * place: "text", "label" (aria-label), "hint" (placeholder) or "title".
 */
export function setText(node, name, values = {}, place = 'text') {
  const named = node.dataset.say ? JSON.parse(node.dataset.say) : {};
  named[place] = [name, values];
  node.dataset.say = JSON.stringify(named);
  fillTexts(node);
  return node;
}

/** Removes a text of the table. */
export function clearText(node) {
  delete node.dataset.say;
  node.textContent = '';
}

/**
 * An element.
 *
 * properties: of the element; class, attributes with "-" and `for` too; say, label, hint: names of
 * texts; on<event>: what listens. children: elements and texts, which are never read as HTML.
 */
export function el(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (key === 'say') setText(node, value);
    else if (key === 'label' || key === 'hint') setText(node, value, {}, key);
    else if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (key === 'class' || key === 'for' || key === 'role' || key.includes('-')) {
      node.setAttribute(key, value);
    } else node[key] = value;
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** A function that calls `action` when it has not been called again for some milliseconds. */
export function debounce(action, milliseconds) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}

/** The language that chooses the glyphs of a text; "" if any does. */
export function languageOfText(text) {
  if (/[\u3040-\u30ff]/u.test(text)) return 'ja';
  return /[\u1100-\u11ff\uac00-\ud7af]/u.test(text) ? 'ko' : '';
}
