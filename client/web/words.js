// Joins words to text and splits text into words, like streamasr/text.py: no space between Chinese or Japanese
// characters.

const SPACELESS =
  "\\u2e80-\\u2fdf\\u3005-\\u3007\\u3021-\\u3029\\u3040-\\u30ff\\u31f0-\\u31ff\\u3400-\\u4dbf\\u4e00-\\u9fff" +
  "\\uf900-\\ufaff\\u{20000}-\\u{323af}";
const NEEDLESS_SPACE = new RegExp(`(?<=[${SPACELESS}]) (?=[${SPACELESS}])`, "gu");
const WORD_BREAK = new RegExp(`\\s+|(?<=[${SPACELESS}])(?=[${SPACELESS}])`, "u");

export function joinWords(words) {
  return words
    .filter((word) => word !== "")
    .join(" ")
    .replace(NEEDLESS_SPACE, "");
}

export function splitWords(text) {
  return text.split(WORD_BREAK).filter((word) => word !== "");
}
