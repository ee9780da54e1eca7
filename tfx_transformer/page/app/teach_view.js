// "Teach it": a classifier from some examples of each class, trained here on the model's vectors.

import {labelBars} from './bars.js';
import {debounce, el, number, setText} from './dom.js';
import {quoted, saveFile} from './files.js';

/**
 * Returns {element, answer, setClasses, train, recognize}. `setClasses` takes [[name, examples]];
 * `recognize` takes a vector, and the element `answer` shows its class.
 *
 * kind: of examples, an object. field(changed) makes the field of a class, {element, examples(),
 * add(list)}; vectors(examples) promises a vector for each; save(classes) saves [[name, examples]]
 * and promises the command that trains a model on them; note, saveText: names of texts; buttons:
 * further elements for the row of buttons; prompt(): the prompt before each text, or ''.
 */
export function teachView(page, kind) {
  const {client, bundle} = page;
  const classes = []; // of each: its name, its examples, its element
  const list = el('div', {class: 'classes'});
  const answer = labelBars();
  const note = el('p', {class: 'quiet', role: 'status'});
  const command = el('pre', {tabIndex: 0, hidden: true});
  let count = 0;
  let round = 0;
  let head = null; // {labels, weights, prompt}, once it is trained
  let tried = null; // the vector that was tried last

  function addClass(name = '', examples = []) {
    const id = `class-${(count += 1)}-name`;
    const field = el('input', {type: 'text', id, value: name, hint: 'class hint', oninput: soon});
    const own = kind.field(soon);
    const element = el('div', {class: 'class', role: 'group', label: 'class'},
      el('div', {class: 'row'}, el('label', {for: id, say: 'class'}),
        el('button', {type: 'button', class: 'plain', say: 'remove', onclick: () => {
          classes.splice(classes.indexOf(one), 1);
          addButton.focus();
          element.remove();
          soon();
        }})),
      field, own.element);
    const one = {name: () => field.value.trim(), examples: own.examples, element};
    classes.push(one);
    list.append(element);
    return own.add(examples);
  }

  async function setClasses(given) {
    classes.length = 0;
    list.replaceChildren();
    await Promise.all(given.map(([name, examples]) => addClass(name, examples)));
    await train();
  }

  /** [[name, examples]] of all classes that have both; classes of the same name are one. */
  function given() {
    const byName = new Map();
    for (const one of classes) {
      const found = one.examples();
      if (one.name() && found.length) {
        byName.set(one.name(), [...(byName.get(one.name()) ?? []), ...found]);
      }
    }
    return [...byName];
  }

  async function train() {
    const own = (round += 1);
    head = null;
    saveHeadButton.disabled = true;
    const taught = given();
    if (taught.length < 2) {
      setText(note, 'teach more');
      answer.clear();
      return;
    }
    try {
      const names = taught.map(([name]) => name);
      const labels = taught.flatMap(([, examples], index) => examples.map(() => index));
      const prompt = kind.prompt();
      const vectors = await kind.vectors(taught.flatMap(([, examples]) => examples));
      if (own !== round) return;
      const request = {vectors, labels, names};
      const {answer: {right, weights}, seconds} = await client.ask('teach', request).answer;
      if (own !== round) return;
      head = {labels: names, weights, prompt};
      saveHeadButton.disabled = false;
      setText(note, 'taught', {
        count: labels.length,
        classes: names.length,
        seconds: number(seconds, 2),
        right: number(100 * right, 0),
      });
      await recognize(tried);
    } catch (error) {
      if (own === round) page.showError(error);
    }
  }

  /** vector: of the model, or null if there is nothing to try. */
  async function recognize(vector) {
    tried = vector;
    if (!head || !vector) {
      answer.clear();
      return;
    }
    answer.show((await client.ask('recognize', {vector}).answer).answer);
  }

  async function save() {
    const taught = given();
    if (!taught.length) {
      setText(note, 'teach more');
      return;
    }
    command.textContent = await kind.save(taught);
    command.hidden = false;
    setText(note, 'saved examples');
  }

  function saveHead() {
    const name = `${bundle.name}-head.json`;
    const text = JSON.stringify({
      format: 1,
      base: bundle.name,
      prompt: head.prompt,
      labels: head.labels,
      weights: head.weights.map((row) => Array.from(row.slice(0, -1))),
      bias: head.weights.map((row) => row.at(-1)),
    });
    saveFile(new Blob([text], {type: 'application/json'}), name);
    command.textContent =
      `tfx-transformer export ${quoted(`saved_models/${bundle.name}`)} --head ${quoted(name)} ` +
      `--name ${quoted(`${bundle.name}-taught`)}`;
    command.hidden = false;
    setText(note, 'saved head');
  }

  const soon = debounce(train, 400);
  const saveHeadButton = el('button', {type: 'button', class: 'plain', say: 'save head',
    disabled: true, onclick: saveHead});
  const addButton = el('button', {type: 'button', class: 'plain', say: 'add class',
    onclick: () => addClass()});
  addClass();
  addClass();
  const element = el('details', {class: 'teach'}, el('summary', {say: 'teach'}),
    el('p', {class: 'quiet', say: kind.note}), list,
    el('div', {class: 'row start'},
      addButton,
      ...kind.buttons,
      el('button', {type: 'button', class: 'plain', say: kind.saveText, onclick: save}),
      saveHeadButton),
    note, command);
  return {element, answer: answer.element, setClasses, train, recognize};
}
