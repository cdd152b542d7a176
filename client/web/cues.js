// Cuts finished utterances into subtitle cues. The algorithm is explained in streamasr/cues.py; a test
// compares the two.

import { joinWords, splitWords } from "./words.js";

export const LIMITS = { lineChars: 42, lines: 2, cueMs: 7000, minCueMs: 1000, shortestMs: 100, pauseMs: 700 };

// as in cues.py: white space and control characters; marks; half a character
const BLANK = /[\s\u0000-\u001f\u007f-\u009f\u2028\u2029\ufeff]+/gu;
const MARK = /[.?!…。？！,;:，；：、]["'”’»)\]]*$/u;
const END_MARK = /[.?!…。？！]["'”’»)\]]*$/u;
const SURROGATE = /[\ud800-\udfff]/gu;

/** Split utterances, given in order of time, into cues that do not overlap: {startMs, endMs, lines}. */
export function cues(finals, limits = LIMITS) {
  const result = finals.flatMap((final) => utteranceCues(timedWords(final), limits));
  let earliestMs = 0;
  for (const cue of result) {
    cue.startMs = Math.max(cue.startMs, earliestMs);
    earliestMs = cue.startMs + limits.shortestMs;
  }
  result.forEach((cue, index) => {
    cue.endMs = Math.min(Math.max(cue.endMs, cue.startMs + limits.minCueMs), cue.startMs + limits.cueMs);
    const next = result[index + 1];
    if (next) cue.endMs = Math.min(cue.endMs, next.startMs);
  });
  return result;
}

function timedWords(final) {
  if (final.words?.length) {
    return final.words.map((word) => ({ ...word, word: clean(word.word) })).filter(({ word }) => word !== "");
  }
  const texts = splitWords(clean(final.text));
  const total = texts.reduce((sum, text) => sum + length(text) + 1, 0);
  const span = final.end_ms - final.start_ms;
  let before = 0;
  return texts.map((word) => {
    const at = (part) => final.start_ms + Math.floor((span * part) / total);
    const start_ms = at(before);
    before += length(word) + 1;
    return { word, start_ms, end_ms: at(before) };
  });
}

function clean(text) {
  return joinWords([text.replace(BLANK, " ").replace(SURROGATE, "\ufffd").replace(/^ | $/g, "")]);
}

function utteranceCues(words, limits) {
  const wrapping = new Wrapping(
    words.map(({ word }) => word),
    limits,
  );
  const best = Array.from({ length: words.length + 1 }, () => ({ cues: 0, cost: 0, end: words.length, lines: [] }));
  for (let begin = words.length - 1; begin >= 0; begin--) {
    let chosen = null;
    for (let end = begin + 1; end <= words.length; end++) {
      const wrapped = wrapping.lines(begin, end);
      const tooLong = words[end - 1].end_ms - words[begin].start_ms > limits.cueMs;
      if (end > begin + 1 && (wrapped === null || tooLong)) break;
      const lines = wrapped ?? [words[begin].word];
      let cost = lines.reduce((sum, line) => sum + length(line), 0) ** 2;
      if (end < words.length) {
        let pause = Math.min(limits.pauseMs, Math.max(0, words[end].start_ms - words[end - 1].end_ms));
        pause = Math.max(pause, Math.floor((limits.pauseMs * wrapping.mark(end)) / 2));
        cost -= Math.floor((limits.lineChars ** 2 * pause) / limits.pauseMs);
      }
      const option = { cues: 1 + best[end].cues, cost: cost + best[end].cost, end, lines };
      const better =
        chosen === null || option.cues < chosen.cues || (option.cues === chosen.cues && option.cost < chosen.cost);
      if (better) chosen = option;
    }
    best[begin] = chosen;
  }
  const result = [];
  for (let begin = 0; begin < words.length; begin = best[begin].end) {
    const { end, lines } = best[begin];
    result.push({ startMs: words[begin].start_ms, endMs: words[end - 1].end_ms, lines });
  }
  return result;
}

/** Breaks parts of one utterance into lines. */
class Wrapping {
  constructor(texts, limits) {
    this.texts = texts;
    this.marks = texts.map((text) => (END_MARK.test(text) ? 2 : MARK.test(text) ? 1 : 0));
    this.limits = limits;
    this.known = new Map();
    this.starts = [];
    this.ends = [];
    let at = 0;
    texts.forEach((text, index) => {
      const before = texts[index - 1] ?? "";
      const start = at + length(joinWords([before, text])) - length(before) - length(text);
      at = start + length(text);
      this.starts.push(start);
      this.ends.push(at);
    });
  }

  /** Put words `begin` to `end` on as few lines as possible; null if they do not fit. */
  lines(begin, end) {
    for (let count = 1; count <= Math.min(this.limits.lines, end - begin); count++) {
      const split = this.split(begin, end, count);
      if (split === null) continue;
      const edges = [begin, ...split.breaks, end];
      return edges.slice(1).map((edge, index) => joinWords(this.texts.slice(edges[index], edge)));
    }
    return null;
  }

  /** 2 if a sentence ends before word `at`, 1 if there is another mark, 0 without one. */
  mark(at) {
    return this.marks[at - 1];
  }

  width(begin, end) {
    return this.ends[end - 1] - this.starts[begin];
  }

  split(begin, end, count) {
    const key = `${begin} ${end} ${count}`;
    if (!this.known.has(key)) this.known.set(key, this.splitInto(begin, end, count));
    return this.known.get(key);
  }

  /** The lowest cost of `count` lines, and the first words of later lines. */
  splitInto(begin, end, count) {
    const width = this.width(begin, end);
    if (width > count * (this.limits.lineChars + 1) - 1) return null;
    if (count === 1) return { cost: width ** 2, breaks: [] };
    let best = null;
    for (let at = begin + 1; at < end; at++) {
      const first = this.width(begin, at);
      if (first > this.limits.lineChars) break;
      const rest = this.split(at, end, count - 1);
      const cost = first ** 2 - Math.floor((this.limits.lineChars ** 2 * this.mark(at)) / 4);
      if (rest === null || (best !== null && cost + rest.cost >= best.cost)) continue;
      best = { cost: cost + rest.cost, breaks: [at, ...rest.breaks] };
    }
    return best;
  }
}

/** Characters, not UTF-16 units. */
function length(text) {
  return [...text].length;
}
