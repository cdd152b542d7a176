// Converts finished utterances to text, SRT and WebVTT. The algorithm is explained in the Python client's subtitles.py;
// a test compares the two.

import { joinWords, splitWords } from "./words.js";

export const LIMITS = { lineChars: 42, cueMs: 7000, minCueMs: 1000, pauseMs: 700 };

export function toText(finals) {
  return finals.map(({ text }) => (text ? `${text}\n` : "")).join("");
}

export function toSrt(finals) {
  return cues(finals)
    .map((cue, index) => block([`${index + 1}`, times(cue, ","), ...cue.lines]))
    .join("");
}

export function toVtt(finals) {
  const escaped = (line) => line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return "WEBVTT\n\n" + cues(finals).map((cue) => block([times(cue, "."), ...cue.lines.map(escaped)])).join("");
}

/** Split utterances, given in order of time, into cues that do not overlap: {startMs, endMs, lines}. */
export function cues(finals) {
  const result = finals.flatMap((final) => utteranceCues(timedWords(final)));
  result.forEach((cue, index) => {
    cue.endMs = Math.max(cue.endMs, cue.startMs + LIMITS.minCueMs);
    const next = result[index + 1];
    if (next) cue.endMs = Math.max(cue.startMs, Math.min(cue.endMs, next.startMs));
  });
  return result;
}

function timedWords(final) {
  if (final.words?.length) return final.words;
  const texts = splitWords(final.text);
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

function utteranceCues(words) {
  const best = Array.from({ length: words.length + 1 }, () => ({ cues: 0, cost: 0, end: words.length, lines: [] }));
  for (let begin = words.length - 1; begin >= 0; begin--) {
    let chosen = null;
    for (let end = begin + 1; end <= words.length; end++) {
      const wrapped = wrap(words.slice(begin, end).map(({ word }) => word));
      const tooLong = words[end - 1].end_ms - words[begin].start_ms > LIMITS.cueMs;
      if (end > begin + 1 && (wrapped === null || tooLong)) break;
      const lines = wrapped ?? [words[begin].word];
      let cost = lines.reduce((sum, line) => sum + length(line), 0) ** 2;
      if (end < words.length) {
        const pause = Math.min(LIMITS.pauseMs, Math.max(0, words[end].start_ms - words[end - 1].end_ms));
        cost -= Math.floor((LIMITS.lineChars ** 2 * pause) / LIMITS.pauseMs);
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

function wrap(texts) {
  const whole = joinWords(texts);
  if (length(whole) <= LIMITS.lineChars) return [whole];
  let chosen = null;
  for (let at = 1; at < texts.length; at++) {
    const pair = [joinWords(texts.slice(0, at)), joinWords(texts.slice(at))];
    const [first, second] = pair.map(length);
    if (Math.max(first, second) > LIMITS.lineChars) continue;
    const uneven = Math.abs(first - second);
    if (chosen === null || uneven < chosen.uneven) chosen = { uneven, pair };
  }
  return chosen?.pair ?? null;
}

/** Characters, not UTF-16 units. */
function length(text) {
  return [...text].length;
}

function block(lines) {
  return [...lines, "", ""].join("\n");
}

function times({ startMs, endMs }, separator) {
  return `${timestamp(startMs, separator)} --> ${timestamp(endMs, separator)}`;
}

function timestamp(ms, separator) {
  const two = (number) => String(number).padStart(2, "0");
  const seconds = Math.floor(ms / 1000);
  const rest = String(ms % 1000).padStart(3, "0");
  const minutes = Math.floor(seconds / 60) % 60;
  return `${two(Math.floor(seconds / 3600))}:${two(minutes)}:${two(seconds % 60)}${separator}${rest}`;
}
