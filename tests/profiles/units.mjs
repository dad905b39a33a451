// The units of all vectors, always the same: names of accounts, every length up to some blocks of each hash, texts
// beyond ASCII with all the kinds of UTF-16 that hashes take differently, and oddities.

import { createHash } from 'node:crypto';

export function units() {
  const units = [];
  for (let i = 0; i < 1000; i++) units.push(`user-${i}`);
  for (let i = 0; i < 200; i++) units.push(`first.last+${i}@example.com`);
  for (let i = 0; i < 200; i++) units.push(draw(`uuid/${i}`).toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*/, '$1-$2-$3-$4-$5'));
  for (let i = 0; i < 200; i++) units.push(String(draw(`number/${i}`).readUIntBE(0, 1 + (i % 6))));
  for (let length = 1; length <= 200; length++) units.push(ascii(`length/${length}`, length));
  for (let i = 0; i < 800; i++) units.push(beyondAscii(`beyond/${i}`, 1 + (i % 24)));
  units.push(' ', '0', '00', '-', '\u0000', 'a\u0000', 'a\u0000b', '\n', 'tab\tbed', '"quoted"', "it's", '\\', '{}', '\u007f', '\ufeffmark');
  units.push('Zo\u00eb', 'Zoe\u0308', '\ufb01', '日本', '🧪', '👩‍🔬', '\ud7ff', '\ue000', '\uffff', '\u{10ffff}', 'ß', 'İstanbul', 'x'.repeat(5000), '日'.repeat(2000));
  return [...new Set(units)];
}

function draw(name) {
  return createHash('sha256').update(name).digest();
}

function ascii(name, length) {
  let text = '';
  for (let block = 0; text.length < length; block++) {
    for (const byte of draw(`${name}/${block}`)) text += String.fromCharCode(33 + (byte % 94));
  }
  return text.slice(0, length);
}

// Latin, Greek, Cyrillic, CJK on both sides of U+8000, Hangul, full width, and beyond the basic plane.
const RANGES = [[0x20, 0x7e], [0xc0, 0xff], [0x391, 0x3a9], [0x410, 0x44f], [0x4e00, 0x7fff], [0x8000, 0x9fff], [0xac00, 0xd7a3], [0xff01, 0xff5e], [0x1f300, 0x1f5ff], [0x20000, 0x2a6df]];

function beyondAscii(name, length) {
  let text = '';
  for (let i = 0; i < length; i++) {
    const drawn = draw(`${name}/${i}`);
    const [first, last] = RANGES[drawn[0] % RANGES.length];
    text += String.fromCodePoint(first + (drawn.readUInt32BE(4) % (last - first + 1)));
  }
  return text;
}
