// Pictures: their pixels, and the field into which they are chosen, dropped, pasted or filmed.

import {el, setText} from './dom.js';
import {acceptDrops, fileButton} from './files.js';

const CAMERA_WIDTH = 640; // most pixels across
const FRAME_PAUSE = 200; // milliseconds from one answer to the next frame

/** The picture in a file, with the colours as they are stored. */
export function decode(blob) {
  return createImageBitmap(blob, {colorSpaceConversion: 'none'});
}

/**
 * Draws on a canvas, over white, and returns {pixels: uint8 (height * width * 3), width, height}.
 *
 * source: an image, a video or another canvas.
 */
export function draw(canvas, source, width, height) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.fillStyle = '#fff';
  context.fillRect(0, 0, width, height);
  context.drawImage(source, 0, 0, width, height);
  const {data} = context.getImageData(0, 0, width, height);
  const pixels = new Uint8Array(width * height * 3);
  for (let at = 0, to = 0; at < data.length; at += 4) {
    pixels[to++] = data[at];
    pixels[to++] = data[at + 1];
    pixels[to++] = data[at + 2];
  }
  return {pixels, width, height};
}

/** A promise of the PNG file of a canvas, as it is now. */
export function pngOf(canvas) {
  return new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
}

/**
 * The field for one picture. Returns {element, current}: current() is the picture that is shown,
 * {picture: as of `draw`, blob: its file or a promise of it}, or null.
 *
 * onPicture: async, called with each picture and each frame of the camera, as of `draw`.
 */
export function pictureField(page, onPicture) {
  const canvas = el('canvas', {role: 'img', label: 'picture', hidden: true});
  const video = el('video', {muted: true, playsInline: true, hidden: true, label: 'camera'});
  const hint = el('p', {say: 'drop picture'});
  const camera = el('button', {type: 'button', class: 'plain', say: 'camera', onclick: toggle});
  const drop = el('div', {class: 'drop'}, hint, canvas, video);
  let stream = null;
  let asking = false; // true while the browser asks for permission
  let shown = null;

  async function open(blob) {
    stopCamera();
    let bitmap;
    try {
      bitmap = await decode(blob);
    } catch {
      page.showStatus('no picture', {}, true);
      return;
    }
    await show(bitmap, bitmap.width, bitmap.height, blob);
    bitmap.close();
  }

  async function show(source, width, height, blob = null) {
    hint.hidden = true;
    canvas.hidden = stream !== null; // the video is seen
    shown = {picture: draw(canvas, source, width, height), blob};
    try {
      await onPicture(shown.picture);
    } catch (error) {
      page.showError(error);
    }
  }

  async function toggle() {
    if (asking) return;
    if (stream) {
      stopCamera();
      return;
    }
    asking = true;
    try {
      stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment'}});
      setText(camera, 'stop camera');
      video.srcObject = stream;
      video.hidden = false;
      await video.play();
    } catch {
      stopCamera();
      page.showStatus('no camera', {}, true);
      return;
    } finally {
      asking = false;
    }
    const own = stream;
    while (own && stream === own) {
      const {videoWidth, videoHeight} = video;
      const scale = Math.min(1, CAMERA_WIDTH / videoWidth);
      await show(video, Math.round(videoWidth * scale), Math.round(videoHeight * scale));
      await new Promise((resolve) => setTimeout(resolve, FRAME_PAUSE));
    }
  }

  function stopCamera() {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    video.hidden = true;
    canvas.hidden = shown === null;
    setText(camera, 'camera');
  }

  acceptDrops(drop, ([file]) => open(file));
  document.addEventListener('paste', (event) => {
    const pasted = [...event.clipboardData.files].find(({type}) => type.startsWith('image/'));
    if (pasted) open(pasted);
  });
  return {
    element: el('div', {}, drop, el('div', {class: 'row start'},
      fileButton('file', 'choose picture', 'image/*', ([file]) => open(file)), camera)),
    current() {
      if (!shown) return null;
      return {picture: shown.picture, blob: shown.blob ?? pngOf(canvas)};
    },
  };
}
