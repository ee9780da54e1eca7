// "Teach it" with pictures.

import {el, setText} from './dom.js';
import {acceptDrops, fileButton, quoted, saveFile} from './files.js';
import {decode, draw, pngOf} from './pictures.js';
import {toCsv} from './tables.js';
import {teachView} from './teach_view.js';
import {zipParts} from './zip.js';

const THUMBNAIL = 64; // pixels high
// Types of the files that a training reads, and their endings.
const ENDINGS = {
  'image/bmp': 'bmp',
  'image/gif': 'gif',
  'image/jpeg': 'jpg',
  'image/png': 'png',
  'image/webp': 'webp',
};

/** The thumbnail of a picture, a canvas. */
function thumbnail(source, width, height) {
  const canvas = el('canvas', {'aria-hidden': 'true'});
  draw(canvas, source, Math.max(1, Math.round((width * THUMBNAIL) / height)), THUMBNAIL);
  return canvas;
}

/** A name that any file system takes. */
function fileName(name) {
  return name.replaceAll(/[^\p{L}\p{M}\p{N} _-]/gu, '_').trim() || '_';
}

/**
 * Returns {element, answer, train, recognize}. Call `train` when a model is loaded, and `recognize`
 * with each picture to try, as of `draw`.
 *
 * shown(): the picture that the page shows, as of `pictureField`.
 */
export function teachPictures(page, shown) {
  const {client, bundle} = page;
  let count = 0;

  async function vectorOf(picture) {
    return (await client.ask('features', picture).answer).answer;
  }

  /** The field of a class. Its examples: {vector, blob}. */
  function pictureField(changed) {
    const examples = [];
    const list = el('div', {class: 'thumbnails'});
    const total = setText(el('p', {class: 'quiet'}), 'examples of a class', {count: 0});

    async function keep(source, picture, blob) {
      const example = {blob, vector: await vectorOf(picture)};
      const button = el('button', {type: 'button', class: 'example', label: 'remove example',
        onclick: () => {
          examples.splice(examples.indexOf(example), 1);
          (button.nextElementSibling ?? button.previousElementSibling ?? addButton).focus();
          button.remove();
          update();
        }}, thumbnail(source, picture.width, picture.height));
      examples.push(example);
      list.append(button);
    }

    async function addFile(file) {
      const bitmap = await decode(file);
      const canvas = el('canvas');
      const picture = draw(canvas, bitmap, bitmap.width, bitmap.height);
      await keep(bitmap, picture, file.type in ENDINGS ? file : await pngOf(canvas));
      bitmap.close();
    }

    async function add(files) {
      for (const file of files) {
        try {
          await addFile(file);
        } catch (error) {
          if (error.values) page.showError(error);
          else page.showStatus('no picture named', {name: file.name}, true);
        }
      }
      update();
    }

    async function addShown() {
      const found = shown();
      if (!found) {
        page.showStatus('nothing shown', {}, true);
        return;
      }
      await add([await found.blob]);
    }

    function update() {
      setText(total, 'examples of a class', {count: examples.length});
      changed();
    }

    const id = `pictures-${(count += 1)}`;
    const addButton = el('button', {type: 'button', class: 'plain', say: 'add this picture',
      onclick: addShown});
    const element = el('div', {class: 'drop slim'}, total, list, el('div', {class: 'row start'},
      addButton, fileButton(id, 'choose pictures', 'image/*', add, true)));
    acceptDrops(element, add);
    return {element, examples: () => examples, add};
  }

  async function save(classes) {
    const folder = `${bundle.name}-examples`;
    const rows = [['path', 'label']];
    const files = [];
    for (const [label, examples] of classes) {
      for (const {blob} of examples) {
        const path = `${fileName(label)}/${files.length + 1}.${ENDINGS[blob.type]}`;
        rows.push([path, label]);
        files.push({name: `${folder}/${path}`, bytes: new Uint8Array(await blob.arrayBuffer())});
      }
    }
    const table = new TextEncoder().encode(toCsv(rows));
    files.unshift({name: `${folder}/examples.csv`, bytes: table});
    saveFile(new Blob(zipParts(files), {type: 'application/zip'}), `${folder}.zip`);
    return `python -m zipfile -e ${quoted(`${folder}.zip`)} .\n` +
      `tfx-transformer run image_classification --images ${quoted(`${folder}/examples.csv`)} ` +
      `--base ${quoted(`saved_models/${bundle.name}`)} --name ${quoted(`${bundle.name}-taught`)}`;
  }

  const teach = teachView(page, {
    field: pictureField,
    vectors: async (examples) => examples.map(({vector}) => vector),
    save,
    note: 'teach pictures note',
    saveText: 'save pictures',
    prompt: () => '',
    buttons: [],
  });
  const answer = el('div', {class: 'further', hidden: true}, el('h2', {say: 'your classes'}),
    teach.answer);
  return {
    element: teach.element,
    answer,
    train: teach.train,
    /** Labels a picture by the classes that were taught, if "Teach it" is open. */
    async recognize(picture) {
      answer.hidden = !teach.element.open;
      if (teach.element.open) await teach.recognize(await vectorOf(picture));
    },
  };
}
