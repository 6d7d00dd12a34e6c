//! Text to tokens and back, with a byte-pair `tokenizer.json`: GPT-2's form, which Llama 3 and Qwen use too.
//!
//! Written here because the `tokenizers` crate would bring some sixty others. Vocabularies of any other form are refused.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value as Json;

use crate::Failure;
use crate::byte_level;

/// A vocabulary, and the pairs that are joined.
pub(crate) struct Tokenizer {
    pieces: HashMap<String, u32>,
    /// By token; the first of a special token is not text.
    texts: HashMap<u32, Vec<u8>>,
    special: HashMap<String, u32>,
    /// Which pairs are joined, and which of them first.
    ranks: HashMap<(String, String), usize>,
    characters: Vec<char>,
    split: Split,
}

/// How text is cut before pairs are joined: no pair is joined across a cut.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Split {
    /// How many digits stay together at most; `None` for any number, with the blank before them, as in GPT-2.
    digits: Option<usize>,
}

impl Tokenizer {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let named = |error: &dyn std::fmt::Display| Failure::from(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
        Self::read(&serde_json::from_str(&text).map_err(|error| named(&error))?).map_err(|error| named(&error))
    }

    fn read(json: &Json) -> Result<Self, Failure> {
        let model = &json["model"];
        if model["type"] != "BPE" || model["byte_fallback"] == true {
            return Err("is not a vocabulary of pairs of bytes, the only kind that this example knows".into());
        }
        let number = |id: &Json| {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            id.ok_or("has a token whose number is not one")
        };
        let bytes = byte_level::bytes();
        let mut tokenizer = Self {
            pieces: HashMap::new(),
            texts: HashMap::new(),
            special: HashMap::new(),
            ranks: HashMap::new(),
            characters: byte_level::characters(),
            split: Split::of(&json["pre_tokenizer"])?,
        };
        for (piece, id) in model["vocab"].as_object().ok_or("has no vocabulary")? {
            let text: Option<Vec<u8>> = piece.chars().map(|character| bytes.get(&character).copied()).collect();
            let id = number(id)?;
            tokenizer.texts.extend(text.map(|text| (id, text)));
            tokenizer.pieces.insert(piece.clone(), id);
        }
        for (rank, merge) in model["merges"].as_array().ok_or("has no pairs")?.iter().enumerate() {
            let pair = match merge {
                Json::String(pair) => pair.split_once(' '),
                Json::Array(pair) => pair.first().and_then(Json::as_str).zip(pair.get(1).and_then(Json::as_str)),
                _ => None,
            };
            let (left, right) = pair.ok_or("has a pair that is not one")?;
            tokenizer.ranks.insert((left.to_owned(), right.to_owned()), rank);
        }
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            let content = token["content"].as_str().ok_or("has an added token without content")?;
            tokenizer.special.insert(content.to_owned(), number(&token["id"])?);
        }
        Ok(tokenizer)
    }

    /// Tokens at which a text ends.
    pub(crate) fn ends(&self) -> Vec<u32> {
        let names = ["<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>"];
        names.iter().filter_map(|&name| self.special.get(name).copied()).collect()
    }

    /// The bytes that a token stands for; none for a special one.
    pub(crate) fn bytes(&self, token: u32) -> &[u8] {
        self.texts.get(&token).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, Failure> {
        let mut tokens = Vec::new();
        let mut rest = text;
        loop {
            // The special token that comes first.
            let names = self.special.iter().filter_map(|(name, &id)| Some((rest.find(name.as_str())?, name.len(), id)));
            let next = names.min_by_key(|&(at, length, _)| (at, usize::MAX - length));
            let plain = next.map_or(rest, |(at, ..)| rest.get(..at).unwrap_or_default());
            for word in self.split.words(plain) {
                self.join(word, &mut tokens)?;
            }
            let Some((at, length, id)) = next else { return Ok(tokens) };
            tokens.push(id);
            rest = rest.get(at + length..).unwrap_or_default();
        }
    }

    /// Adds the tokens of a word: its bytes, of which the pair that comes first in the list is joined as long as there is one.
    fn join(&self, word: &str, tokens: &mut Vec<u32>) -> Result<(), Failure> {
        let mut pieces: Vec<String> = word.bytes().map(|byte| self.characters[usize::from(byte)].to_string()).collect();
        loop {
            let rank = |i: usize| self.ranks.get(&(pieces.get(i)?.clone(), pieces.get(i + 1)?.clone())).copied();
            let first = (0..pieces.len()).filter_map(|i| Some((rank(i)?, i))).min();
            let Some((_, at)) = first else { break };
            let right = pieces.remove(at + 1);
            pieces[at].push_str(&right);
        }
        for piece in pieces {
            let id = self.pieces.get(&piece).ok_or_else(|| format!("the vocabulary has no {piece:?}"))?;
            tokens.push(*id);
        }
        Ok(())
    }
}

impl Split {
    fn of(json: &Json) -> Result<Self, Failure> {
        let steps = json["pretokenizers"].as_array().map_or(std::slice::from_ref(json), Vec::as_slice);
        let patterns: Vec<&str> = steps.iter().filter_map(|step| step["pattern"]["Regex"].as_str()).collect();
        let level = steps.iter().find(|step| step["type"] == "ByteLevel");
        match (patterns.as_slice(), level) {
            ([], Some(level)) if level["use_regex"] != false && level["add_prefix_space"] != true => {
                Ok(Self { digits: None })
            }
            ([pattern], Some(_)) if pattern.contains(r"|\p{N}{1,3}|") => Ok(Self { digits: Some(3) }),
            ([pattern], Some(_)) if pattern.contains(r"|\p{N}|") => Ok(Self { digits: Some(1) }),
            _ => Err("cuts text into words by rules that this example does not know".into()),
        }
    }

    fn words(self, text: &str) -> Vec<&str> {
        let mut words = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (word, behind) = rest.split_at(self.word(rest).clamp(1, rest.len()));
            words.push(word);
            rest = behind;
        }
        words
    }

    /// How many bytes the first word of `text` has. The order of the rules is that of the patterns' alternatives.
    fn word(self, text: &str) -> usize {
        let like_llama = self.digits.is_some();
        let run = |from: usize, wanted: &dyn Fn(char) -> bool| {
            let rest = text.get(from..).unwrap_or_default();
            rest.find(|character| !wanted(character)).unwrap_or(rest.len())
        };
        let mark = |character: char| !character.is_whitespace() && !is_letter(character) && !character.is_numeric();
        let newline = |character: char| matches!(character, '\r' | '\n');
        if let Some(contraction) = contraction(text, like_llama) {
            return contraction;
        }
        let first = text.chars().next().unwrap_or_default();
        // What may stand before the letters of a word, as part of it.
        let before = match first {
            ' ' => 1,
            other if like_llama && !newline(other) && !is_letter(other) && !other.is_numeric() => other.len_utf8(),
            _ => 0,
        };
        let letters = run(before, &is_letter);
        if letters > 0 {
            return before + letters;
        }
        let blank = usize::from(first == ' ');
        let digits_from = if like_llama { 0 } else { blank };
        let digits = match self.digits {
            None => run(digits_from, &char::is_numeric),
            Some(most) => text.chars().take_while(|c| c.is_numeric()).take(most).map(char::len_utf8).sum(),
        };
        if digits > 0 {
            return digits_from + digits;
        }
        let marks = run(blank, &mark);
        if marks > 0 {
            let lines = if like_llama { run(blank + marks, &newline) } else { 0 };
            return blank + marks + lines;
        }
        let blanks = run(0, &char::is_whitespace);
        let spaces = text.get(..blanks).unwrap_or_default();
        if like_llama && let Some(line) = spaces.rfind(newline) {
            return line + 1;
        }
        // The last blank belongs to the word that follows it.
        match spaces.char_indices().next_back() {
            Some((last, _)) if blanks < text.len() && last > 0 => last,
            _ => blanks,
        }
    }
}

/// Letters as the patterns know them: without the marks that Rust counts among them.
fn is_letter(character: char) -> bool {
    character.is_alphabetic() && !character.is_numeric()
}

/// The length of `'s`, `'re` and so on at the begin of the text.
fn contraction(text: &str, any_case: bool) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    let begins = |ending: &&str| {
        rest.get(..ending.len()).is_some_and(|there| there == *ending || any_case && there.eq_ignore_ascii_case(ending))
    };
    ["s", "t", "re", "ve", "m", "ll", "d"].iter().find(|ending| begins(ending)).map(|ending| 1 + ending.len())
}
