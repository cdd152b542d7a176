// Convert UTF-8, as Python passes strings, to code points and back.
#pragma once

#include <string>
#include <string_view>

namespace streamasr {

inline std::u32string code_points(std::string_view utf8) {
  std::u32string text;
  for (std::size_t at = 0; at < utf8.size();) {
    const auto lead = static_cast<unsigned char>(utf8[at++]);
    const int following = lead < 0x80 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    char32_t point = following == 0 ? lead : lead & (0x3F >> following);
    for (int i = 0; i < following && at < utf8.size(); ++i) {
      point = (point << 6) | (static_cast<unsigned char>(utf8[at++]) & 0x3F);
    }
    text.push_back(point);
  }
  return text;
}

inline void append_utf8(std::string& utf8, char32_t point) {
  if (point < 0x80) {
    utf8.push_back(static_cast<char>(point));
    return;
  }
  const int following = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
  const unsigned lead_bits = following == 1 ? 0xC0 : following == 2 ? 0xE0 : 0xF0;
  utf8.push_back(static_cast<char>(lead_bits | (point >> (6 * following))));
  for (int i = following - 1; i >= 0; --i) {
    utf8.push_back(static_cast<char>(0x80 | ((point >> (6 * i)) & 0x3F)));
  }
}

}  // namespace streamasr
