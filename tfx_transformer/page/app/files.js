// Files: dropped onto the page, and saved from it.

import {el} from './dom.js';

/** Calls `take` with the list of files dropped onto an element; `frame` is highlighted for it. */
export function acceptDrops(element, take, frame = element) {
  element.addEventListener('dragover', (event) => {
    event.preventDefault();
    frame.classList.add('over');
  });
  element.addEventListener('dragleave', () => frame.classList.remove('over'));
  element.addEventListener('drop', (event) => {
    frame.classList.remove('over');
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    take([...event.dataTransfer.files]);
  });
}

/** A field for files that looks like a button. say: name of its text; take: gets the list. */
export function fileButton(id, say, accept, take, several = false) {
  const field = el('input', {type: 'file', accept, id, multiple: several, class: 'hidden-file',
    onchange: () => {
      if (field.files.length) take([...field.files]);
      field.value = ''; // so that the same file can be chosen again
    }});
  return el('span', {}, field, el('label', {for: id, class: 'button', say}));
}

/** Lets the browser save a Blob under a name. */
export function saveFile(blob, name) {
  const address = URL.createObjectURL(blob);
  el('a', {href: address, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** A name, in quotes if a shell needs them. */
export function quoted(name) {
  return /^[\w./-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`;
}
