"""Operators on texts: StringNormalizer, TfIdfVectorizer, StringSplit, RegexFullMatch, StringConcat, and the Tokenizer of com.microsoft."""

import numpy as np

from cases import BOOL, FLOAT, INT64, STRING, texts

WORDS = [
    "Monday", "monday", "TUESDAY", "straße", "Ünder", "ǅ", "İstanbul", "", "a b", "ÿ", "ﬁ", "Σας", "日本", "é", "𐐀x", "ᾀᾳῃ", "ŉǰΐ", "ǆ", "ẞ", "ა", "Ⰰ",
]
LINES = ["a,b,c", ",a", "a,", ",", "", "abc", ",,a,,b,,", " a  b ", "   ", "a\tb\nc", "xx--yy--", "日,本", " lead", "a b  c d  "]
DOCUMENTS = ["hello world", "a,b;c", "", "  two  spaces ", "üñí cødé", "aaaa", "ab12cd345", "x", "日本 語", "end.", ",", ", ,"]
PATTERNS = [
    r"(a|b)*c", r"\d+", r"\w+", r"[^a-z]+", r"a.c", r"(?i)straSSe", r"(?i)[a-m]+k", r"(?s)a.c", r".*", r"", r"\s+", r"[\s\w]+", r"\bfoo\b",
    r".*\bfoo\b.*", r"^abc$", r"a{2,3}", r"(?:ab)+?", r"[[:alpha:]]+", r"\D+", r"\W+", r"\S*", r"(\W|^)[\w.\-]{0,25}@(yahoo|gmail)\.com(\W|$)",
    r"[日本]+", r"(?m)^a$\n^b$", r"\x41\x{42}", r"a|", r"[^\d\s]+", r"(?i)k", r"(?i)[^k]", r"(?i:A)b", r"(?-s).", r"\.", r"[a\]b]+", r"[-a]+",
    r"\Qa.b\E", r"(?P<n>a)b", r"\Aab\z", r"(a+)+b", r"x*", r"\v", r"[\v]", r"(?U)a+",
]
MATCHED = [
    "abc", "ababc", "123", "a1_", "ABC", "a\nc", "straße", "STRASSE", "abck", "ABCK", "abc\u212a", "", " \t\n", "\x0b", "foo", "a foo b", "aa", "aaa",
    "aaaa", "abab", "١٢", "é", "account@gmail.com", "x", "日本", "a\nb", "AB", "k", "K", "\u212a", "Ab", "\n", "a.b", "a]b", "α", "aab", "!?", "-", "ſ",
]


def generate(cases, seed):
    for number, family in enumerate((normalizer, vectorizer, split, full_match, tokenizer)):
        family(cases, np.random.default_rng([seed, 20, number]))


def normalizer(cases, _):
    for action in ["NONE", "LOWER", "UPPER", None]:
        for sensitive in [0, 1, None]:
            for stop in [None, ["monday"], ["Monday", "ÜNDER", "a b"], ["straße", "é"]]:
                for locale in [None, "en_US.UTF-8", "C.UTF-8"] if stop else [None]:
                    attributes = {"case_change_action": action, "is_case_sensitive": sensitive, "stopwords": stop, "locale": locale}
                    plain = [word for word in WORDS if word.isascii()]
                    cases.add("StringNormalizer", attributes, [[texts(*plain)], [texts("Monday")]], [STRING], opset=10, domain="ai.onnx", tag="_ascii")
                    cases.add("StringNormalizer", attributes, [[texts(*WORDS)], [texts("x", "y")]], [STRING], opset=10, domain="ai.onnx")
                    cases.add("StringNormalizer", attributes, [[np.array([WORDS], object)]], [STRING], opset=10, domain="ai.onnx")


def vectorizer(cases, random):
    words = ["a", "b", "c", "dd", "ü", ""]
    for rep in range(120):
        largest = int(random.integers(1, 4))
        smallest, levels = int(random.integers(1, largest + 1)), int(random.integers(largest, 4))
        pool, starts, grams = [], [], 0
        for length in range(1, levels + 1):
            starts.append(len(pool))
            seen = set()
            for _ in range(int(random.integers(0, 5)) if length > 1 else int(random.integers(1, 4))):
                gram = tuple(int(word) for word in random.integers(0, 5, size=length))
                if gram not in seen:
                    seen.add(gram)
                    pool += gram
                    grams += 1
        order = [list(range(grams)), random.permutation(grams).tolist(), [int(place) for place in random.integers(0, grams, size=grams)]][rep % 3]
        attributes = {
            "mode": ["TF", "IDF", "TFIDF"][rep // 2 % 3], "min_gram_length": smallest, "max_gram_length": largest,
            "max_skip_count": int(random.choice([0, 1, 2, 9])), "ngram_counts": starts, "ngram_indexes": order,
            "weights": np.round(random.normal(size=grams), 2).tolist() if random.random() < 0.6 else None,
        }
        tokens = random.integers(0, 6, size=(4, 9))
        if rep % 2:
            attributes["pool_int64s"] = pool
            x = tokens.astype(np.int64 if rep % 4 == 1 else np.int32)
        else:
            attributes["pool_strings"] = [words[word] for word in pool]
            x = np.array([[words[token] for token in row] for row in tokens], object)
        cases.add("TfIdfVectorizer", attributes, [[x], [x[:1]]], [FLOAT], opset=9, domain="ai.onnx")
        cases.add("TfIdfVectorizer", attributes, [[x[0]], [x[0][:1]]], [FLOAT], opset=9, domain="ai.onnx")


def split(cases, _):
    for delimiter in [None, "", ",", ",,", "--", " ", "日", "ab"]:
        for most in [None, 0, 1, 2, 5, -1]:
            attributes = {"delimiter": delimiter, "maxsplit": most}
            for x in [texts(*LINES), np.array(LINES[:12], object).reshape(3, 4), texts("", ""), texts("  ", "")]:
                cases.add("StringSplit", attributes, [[x]], [STRING, INT64], opset=20, domain="ai.onnx")


def full_match(cases, _):
    for pattern in PATTERNS:
        cases.add("RegexFullMatch", {"pattern": pattern}, [[texts(*MATCHED)], [texts("abc")]], [BOOL], opset=20, domain="ai.onnx")
    for one, other in [((2, 3), (3,)), ((2, 1), (1, 3)), ((2,), (2,))]:
        x, y = (np.array([f"é{i}" for i in range(int(np.prod(shape)))], object).reshape(shape) for shape in (one, other))
        cases.add("StringConcat", {}, [[x, y]], [STRING], opset=20, domain="ai.onnx", free=False)


def tokenizer(cases, _):
    for mark in [0, 1]:
        for shortest in [1, 2, 3]:
            base = {"pad_value": "#", "mincharnum": shortest, "mark": mark}
            for separators in [
                [""], [" "], [",", " "], [r"\s+"], [r"[,;]", " ", r"\."], ["aa"], ["a|aa|aaa"], ["b", "a"], [r"\d+"], [r"\W"], ["l+", "o"], [r"^a"], ["日"],
            ]:
                for x in [texts(*DOCUMENTS), np.array(DOCUMENTS[:4], object).reshape(2, 2), texts("", "")]:
                    cases.add("Tokenizer", base | {"separators": separators}, [[x]], [STRING], opset=1, domain="com.microsoft")
            for expression in [r"\w+", r"[a-z]+", r".", r"a|aa", r"\d*", r"(ab|a)(c|bcd)?", r"[^ ]+", r"aaa"]:
                for x in [texts(*DOCUMENTS), np.array(DOCUMENTS[:4], object).reshape(2, 2), texts("abcd", "aaaaa"), texts("a\nb", "\r\n")]:
                    cases.add("Tokenizer", base | {"tokenexp": expression}, [[x]], [STRING], opset=1, domain="com.microsoft", tag="_tokens")
