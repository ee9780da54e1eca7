// Views of models that write: a translator, a model that continues texts, an assistant.

import {debounce, el, languageOfText, number, setText} from './dom.js';
import {tokenView} from './token_view.js';

/** "12 tokens in 0.1 s, 120 tokens/s". */
function showSpeed(page, tokens, seconds) {
  page.showStatus('speed', {
    tokens: number(tokens),
    seconds: number(seconds, 2),
    speed: number(tokens / Math.max(seconds, 1e-3)),
  });
}

function copyButton(text) {
  const button = el('button', {type: 'button', class: 'plain', say: 'copy', onclick: async () => {
    try {
      await navigator.clipboard.writeText(text());
      setText(button, 'copied');
    } catch {
      setText(button, 'copy failed');
    }
    setTimeout(() => setText(button, 'copy'), 1500);
  }});
  return button;
}

/** The options of decoding, folded; changed: called when one changes. */
function samplingOptions(changed = () => {}) {
  const fields = {
    temperature: el('input', {type: 'number', min: 0, max: 100, step: 0.1, value: 0}),
    topK: el('input', {type: 'number', min: 0, step: 1, value: 0}),
    topP: el('input', {type: 'number', min: 0.01, max: 1, step: 0.01, value: 1}),
    repetitionPenalty: el('input', {type: 'number', min: 0.1, max: 100, step: 0.1, value: 1}),
    maxNewTokens: el('input', {type: 'number', min: 1, step: 1, value: ''}),
    seed: el('input', {type: 'number', min: 0, step: 1, value: 0}),
    stop: el('input', {type: 'text', maxLength: 500}),
  };
  for (const field of Object.values(fields)) field.addEventListener('input', changed);
  const rows = Object.entries(fields).map(([name, field]) =>
    el('label', {}, el('span', {say: `option ${name}`}), field));
  const element = el('details', {class: 'options'}, el('summary', {say: 'options'}),
    el('p', {class: 'quiet', say: 'options note'}), el('div', {class: 'fields'}, ...rows));
  return {
    element,
    /** The options of a request; a number out of range is replaced by its default. */
    values() {
      const read = (name, fallback) =>
        fields[name].value !== '' && fields[name].validity.valid
          ? fields[name].valueAsNumber : fallback;
      return {
        temperature: read('temperature', 0),
        topK: read('topK', 0),
        topP: read('topP', 1),
        repetitionPenalty: read('repetitionPenalty', 1),
        maxNewTokens: read('maxNewTokens', 0),
        seed: read('seed', 0),
        stop: fields.stop.value ? [fields.stop.value] : [],
      };
    },
  };
}

/** Translates while one types, line by line. */
export function translationView(page) {
  const {client, bundle} = page;
  const source = el('textarea', {id: 'source', rows: 6, hint: 'source hint', maxLength: 20_000});
  const target = el('output', {id: 'target', class: 'written', for: 'source', 'aria-live': 'polite'});
  const notice = el('p', {class: 'notice', role: 'status'});
  const tokens = tokenView(page);
  const known = new Map(); // lines that were translated before
  const options = samplingOptions(debounce(() => {
    known.clear();
    translate();
  }, 300));
  let running = null;
  let round = 0;

  async function translate() {
    const own = (round += 1);
    running?.stop();
    const lines = source.value.split('\n');
    const written = [];
    let cut = 0;
    let count = 0;
    let seconds = 0;
    tokens.show(source.value);
    target.setAttribute('aria-busy', 'true');
    for (const line of lines) {
      if (!line.trim()) {
        written.push('');
        continue;
      }
      if (!known.has(line)) {
        const show = ({text}) => own === round && display([...written, text]);
        running = client.ask('answer', {text: line}, {options: options.values(), show});
        try {
          const {answer, seconds: took} = await running.answer;
          if (own !== round) return;
          known.set(line, answer);
          count += answer.tokens;
          seconds += took;
        } catch (error) {
          if (own !== round) return;
          page.showError(error);
          target.removeAttribute('aria-busy');
          return;
        }
      }
      written.push(known.get(line).text);
      cut = known.get(line).cut || cut;
      display(written);
    }
    display(written);
    target.removeAttribute('aria-busy');
    if (cut) setText(notice, 'cut', {tokens: cut});
    else notice.replaceChildren();
    if (count) showSpeed(page, count, seconds);
  }

  function display(lines) {
    target.textContent = lines.join('\n');
    target.lang = languageOfText(target.textContent);
  }

  source.addEventListener('input', debounce(translate, 120));
  const element = el('section', {class: 'pair'},
    el('div', {}, el('label', {for: 'source', say: 'source'}), source),
    el('div', {}, el('div', {class: 'row'}, el('h2', {say: 'translation'}),
      copyButton(() => target.textContent)), target),
    el('div', {class: 'wide'}, notice, options.element, tokens.element));
  return {
    element,
    ready() {
      if (!source.value) source.value = bundle.examples[0] ?? '';
      source.focus();
      translate();
    },
  };
}

/** Continues a text. */
export function continuationView(page) {
  const {client, bundle} = page;
  const text = el('textarea', {id: 'text', rows: 8, value: bundle.examples[0] ?? '', maxLength: 100_000});
  const options = samplingOptions();
  const notice = el('p', {class: 'notice', role: 'status'});
  const tokens = tokenView(page);
  const go = el('button', {type: 'submit', say: 'continue', disabled: true});
  let running = null;

  async function write(event) {
    event.preventDefault();
    if (running) {
      running.stop();
      return;
    }
    const before = text.value;
    const show = ({text: more, space}) => {
      text.value = before + (before && space) + more;
      text.scrollTop = text.scrollHeight;
    };
    running = client.ask('answer', {text: before}, {options: options.values(), show});
    setText(go, 'stop');
    try {
      const {answer, seconds} = await running.answer;
      show(answer);
      if (answer.cut) setText(notice, 'cut front', {tokens: answer.cut});
      else notice.replaceChildren();
      if (answer.text) showSpeed(page, answer.tokens, seconds);
      else page.showStatus('nothing more');
    } catch (error) {
      page.showError(error);
    }
    running = null;
    setText(go, 'continue');
    tokens.show(text.value);
  }

  text.addEventListener('input', () => tokens.show(text.value));
  const element = el('form', {onsubmit: write},
    el('label', {for: 'text', say: 'beginning'}), text,
    el('div', {class: 'row'}, go, copyButton(() => text.value)),
    notice, options.element, tokens.element);
  return {
    element,
    ready() {
      go.disabled = false;
      tokens.show(text.value);
    },
  };
}

/** A conversation. */
export function chatView(page) {
  const {client, bundle} = page;
  const log = el('div', {class: 'log', role: 'log', tabIndex: 0, label: 'conversation'});
  const text = el('textarea', {id: 'message', rows: 2, hint: 'message hint', value: bundle.examples[0] ?? '',
    maxLength: 20_000});
  const system = el('textarea', {id: 'system', rows: 2});
  const options = samplingOptions();
  const tokens = tokenView(page);
  const send = el('button', {type: 'submit', say: 'send', disabled: true});
  const anew = el('button', {type: 'button', class: 'plain', say: 'new conversation',
    onclick: begin, disabled: true});
  const nothing = el('p', {class: 'quiet', say: 'no conversation'});
  let running = null;

  async function begin() {
    running?.stop();
    log.replaceChildren(nothing);
    await client.ask('reset', {}).answer;
    system.disabled = false;
    page.showStatus('begun');
    text.focus();
  }

  function bubble(who, content) {
    const said = el('p', {class: 'said', lang: languageOfText(content)}, content);
    const element = el('div', {class: `bubble ${who}`}, el('h2', {say: who}), said);
    nothing.remove();
    log.append(element);
    log.scrollTop = log.scrollHeight;
    return said;
  }

  async function answer(event) {
    event?.preventDefault();
    if (running) {
      running.stop();
      return;
    }
    const question = text.value;
    if (!question.trim()) return;
    const asked = bubble('you', question);
    text.value = '';
    system.disabled = true;
    const said = bubble('model', '');
    said.setAttribute('aria-busy', 'true');
    const show = ({text: more}) => {
      said.textContent = more;
      said.lang = languageOfText(more);
      log.scrollTop = log.scrollHeight;
    };
    running = client.ask('answer', {text: question, system: system.value},
      {options: options.values(), show});
    setText(send, 'stop');
    try {
      const {answer: found, seconds} = await running.answer;
      show(found);
      if (!found.text) setText(said, 'no answer');
      if (found.forgotten) {
        log.append(setText(el('p', {class: 'notice'}), 'forgotten', {turns: found.forgotten}));
      }
      showSpeed(page, found.tokens, seconds);
    } catch (error) {
      said.parentElement.remove();
      asked.parentElement.remove();
      if (!log.hasChildNodes()) log.append(nothing);
      text.value = question;
      page.showError(error);
    }
    said.removeAttribute('aria-busy');
    running = null;
    setText(send, 'send');
    text.focus();
  }

  text.addEventListener('keydown', (event) => {
    // Enter that ends the choice of kanji sends nothing.
    const composing = event.isComposing || event.keyCode === 229; // the latter in Safari
    if (event.key === 'Enter' && !event.shiftKey && !composing) answer(event);
  });
  text.addEventListener('input', () => tokens.show(text.value));
  const systemField = bundle.chat.roles.system
    ? el('details', {}, el('summary', {say: 'system'}),
      el('label', {for: 'system', class: 'quiet', say: 'system note'}), system)
    : null;
  const element = el('section', {class: 'chat'}, log,
    el('form', {onsubmit: answer},
      el('label', {for: 'message', say: 'message'}), text,
      el('div', {class: 'row'}, send, anew)),
    systemField, options.element, tokens.element);
  return {
    element,
    ready() {
      send.disabled = false;
      anew.disabled = false;
      system.disabled = false;
      log.replaceChildren(nothing); // a model that is loaded again has no conversation
      text.focus();
    },
  };
}
