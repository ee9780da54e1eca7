// Tags of tokens to spans: the most probable tags that make whole spans, as `prediction.tags`.

import {isInsideWord} from './words.js';

/** The label that a tag is of; "" of `O`. */
function labelOf(tag) {
  if (tag === 'O') return '';
  return /^[BI]-./.test(tag) ? tag.slice(2) : tag;
}

function logSoftmax(row) {
  const highest = Math.max(...row);
  const sum = Math.log(row.reduce((total, value) => total + Math.exp(value - highest), 0));
  return Array.from(row, (value) => value - highest - sum);
}

/** log(sum(exp(values))); -Infinity of nothing. */
function logSum(values) {
  const highest = Math.max(-Infinity, ...values);
  if (!Number.isFinite(highest)) return highest;
  return highest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - highest), 0));
}

/** [start, end] of the windows over tokens, with the part that counts: see `text.windows`. */
export function windows(count, room) {
  const step = Math.max(room - Math.floor(room / 4), 1);
  const margin = Math.floor((room - step) / 2);
  const most = count <= room ? 1 : 1 + Math.ceil((count - room) / step);
  return Array.from({length: most}, (_, index) => ({
    start: index * step,
    end: Math.min(index * step + room, count),
    keptStart: index ? index * step + margin : 0,
    keptEnd: index === most - 1 ? count : (index + 1) * step + margin,
  }));
}

export class Tags {
  /** names: of the tags, in the order of the logits. */
  constructor(names) {
    this.names = names;
    this.labels = names.map(labelOf);
    const begins = new Set(names.filter((name) => name.startsWith('B-')).map(labelOf));
    this.insideBegins = this.labels.some((label) => label && !begins.has(label));
    this.continues = names.map((name, index) => this.labels[index] && !name.startsWith('B-'));
    this.between = this.#transitions(false);
    this.within = this.#transitions(true);
    this.first = this.continues.map((inside) => (inside && !this.insideBegins ? -Infinity : 0));
  }

  /** 0 where the tag of a column may follow that of a row, else -Infinity. */
  #transitions(within) {
    return this.labels.map((before) => this.labels.map((after, index) => {
      const same = before === after;
      const allowed = this.continues[index]
        ? same || (this.insideBegins && !within)
        : !within || (same && !after);
      return allowed ? 0 : -Infinity;
    }));
  }

  /**
   * The spans of the most probable tags that make whole spans (Viterbi 1967): [{start, end, label,
   * text, probability}], in code points.
   *
   * characters: code points of the text; offsets: [start, end] of each token; logits: rows.
   */
  spans(characters, offsets, logits) {
    const places = [...offsets.keys()].filter((index) => offsets[index][0] < offsets[index][1]);
    if (!places.length) return [];
    const kept = places.map((index) => offsets[index]);
    const scores = places.map((index) => logSoftmax(logits[index]));
    const steps = kept.slice(1).map((after, index) => this.#step(characters, kept[index], after));
    const tags = this.#best(scores, steps);
    const [before, after] = this.#sums(scores, steps);
    const whole = logSum(before.at(-1));
    return this.#runs(tags).map(([first, last]) => {
      const sure = this.#span(first, last, tags, scores, steps, before, after) - whole;
      const start = kept[first][0];
      const end = Math.max(...kept.slice(first, last + 1).map(([, one]) => one));
      return {
        start,
        end,
        label: this.labels[tags[first]],
        text: characters.slice(start, end).join(''),
        probability: Math.min(1, Math.exp(sure)),
      };
    });
  }

  #step(characters, before, after) {
    const joined = after[0] < before[1]
      || (after[0] === before[1] && isInsideWord(characters, after[0]));
    return joined ? this.within : this.between;
  }

  #best(scores, steps) {
    let best = scores[0].map((score, tag) => score + this.first[tag]);
    const back = [];
    for (const [place, step] of steps.entries()) {
      const choice = this.names.map((_, after) => {
        let highest = 0;
        for (let tag = 1; tag < best.length; tag++) {
          if (best[tag] + step[tag][after] > best[highest] + step[highest][after]) highest = tag;
        }
        return highest;
      });
      back.push(choice);
      best = choice.map((tag, after) => best[tag] + step[tag][after] + scores[place + 1][after]);
    }
    const path = [best.indexOf(Math.max(...best))];
    for (const choice of back.reverse()) path.push(choice[path.at(-1)]);
    return path.reverse();
  }

  /** [first, last] token of each span of a path. */
  #runs(tags) {
    const found = [];
    for (const [place, tag] of tags.entries()) {
      const label = this.labels[tag];
      if (!label) continue;
      const goesOn = place && this.continues[tag] && this.labels[tags[place - 1]] === label;
      if (goesOn) found.at(-1)[1] = place;
      else found.push([place, place]);
    }
    return found;
  }

  /** Logs of the sums over all paths up to each token and tag, and from behind each. */
  #sums(scores, steps) {
    const before = [scores[0].map((score, tag) => score + this.first[tag])];
    for (const [place, step] of steps.entries()) {
      before.push(scores[place + 1].map((score, after) =>
        score + logSum(before[place].map((sum, tag) => sum + step[tag][after]))));
    }
    const after = scores.map((row) => row.map(() => 0));
    for (let place = scores.length - 2; place >= 0; place--) {
      after[place] = steps[place].map((row) =>
        logSum(row.map((step, tag) => step + scores[place + 1][tag] + after[place + 1][tag])));
    }
    return [before, after];
  }

  /** The log of the sum over the paths that have this span, no longer and no shorter. */
  #span(first, last, tags, scores, steps, before, after) {
    const label = this.labels[tags[first]];
    let total = before[first][tags[first]];
    if (first && this.continues[tags[first]]) { // another one of the label would reach back
      const column = before[first - 1]
        .map((sum, tag) => sum + steps[first - 1][tag][tags[first]])
        .filter((_, tag) => this.labels[tag] !== label);
      total = logSum(column) + scores[first][tags[first]];
    }
    for (let place = first + 1; place <= last; place++) total += scores[place][tags[place]];
    if (last + 1 === scores.length) return total;
    const ends = steps[last][tags[last]]
      .map((step, tag) => step + scores[last + 1][tag] + after[last + 1][tag])
      .filter((_, tag) => !(this.continues[tag] && this.labels[tag] === label));
    return total + logSum(ends);
  }
}
