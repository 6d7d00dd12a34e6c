//! Tokens and their texts, from the `tokenizer.json` that is published beside a model.

use std::collections::HashMap;
use std::path::Path;

use crate::Failure;
use crate::byte_level;

/// What a token stands for.
#[derive(Debug, Clone, PartialEq)]
enum Meaning {
    /// A piece of text, which may be part of a character.
    Text(Vec<u8>),
    /// So many seconds after the window's begin.
    Time(f32),
    Special,
    Nothing,
}

/// The tokens of a model of Whisper's kind.
pub(crate) struct Vocabulary {
    meanings: Vec<Meaning>,
    special: HashMap<String, usize>,
}

impl Vocabulary {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let named = |error: &dyn std::fmt::Display| Failure::from(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
        Self::read(&text).map_err(|error| named(&error))
    }

    fn read(text: &str) -> Result<Self, Failure> {
        let json: serde_json::Value = serde_json::from_str(text)?;
        let mut vocabulary = Self { meanings: Vec::new(), special: HashMap::new() };
        let pieces = json["model"]["vocab"].as_object().ok_or("has no vocabulary")?;
        let bytes = byte_level::bytes();
        for (piece, id) in pieces {
            let piece: Option<Vec<u8>> = piece.chars().map(|character| bytes.get(&character).copied()).collect();
            vocabulary.set(id, piece.map_or(Meaning::Nothing, Meaning::Text))?;
        }
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            let content = token["content"].as_str().ok_or("has an added token without content")?;
            let time = content.strip_prefix("<|").and_then(|rest| rest.strip_suffix("|>")?.parse().ok());
            let id = vocabulary.set(&token["id"], time.map_or(Meaning::Special, Meaning::Time))?;
            vocabulary.special.insert(content.to_owned(), id);
        }
        Ok(vocabulary)
    }

    fn set(&mut self, id: &serde_json::Value, meaning: Meaning) -> Result<usize, Failure> {
        let id = id.as_u64().filter(|&id| id < 1 << 22).ok_or("has a token whose number is not one")? as usize;
        if self.meanings.len() <= id {
            self.meanings.resize(id + 1, Meaning::Nothing);
        }
        self.meanings[id] = meaning;
        Ok(id)
    }

    /// The token that is called `name`, if there is one.
    pub(crate) fn special(&self, name: &str) -> Option<usize> {
        self.special.get(name).copied()
    }

    /// The seconds that a token stands for, if it is a time.
    pub(crate) fn time(&self, token: usize) -> Option<f32> {
        if let Some(Meaning::Time(seconds)) = self.meanings.get(token) { Some(*seconds) } else { None }
    }

    pub(crate) fn is_text(&self, token: usize) -> bool {
        matches!(self.meanings.get(token), Some(Meaning::Text(_)))
    }

    /// The text of tokens; what is not text is left out.
    pub(crate) fn text(&self, tokens: &[usize]) -> String {
        let mut bytes = Vec::new();
        for &token in tokens {
            if let Some(Meaning::Text(piece)) = self.meanings.get(token) {
                bytes.extend(piece);
            }
        }
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_characters_and_times_are_read() {
        let json = r#"{"added_tokens": [{"id": 3, "content": "<|endoftext|>"}, {"id": 4, "content": "<|1.50|>"}],
            "model": {"vocab": {"Ġcaf": 0, "Ã": 1, "©": 2}}}"#;
        let vocabulary = Vocabulary::read(json).unwrap();
        assert_eq!(vocabulary.text(&[4, 0, 1, 2, 3]), "café");
        assert_eq!(vocabulary.special("<|endoftext|>"), Some(3));
        assert_eq!((vocabulary.time(4), vocabulary.time(3)), (Some(1.5), None));
        assert!(vocabulary.is_text(0) && !vocabulary.is_text(3) && !vocabulary.is_text(99));
        for bad in ["", "{}", r#"{"model": {"vocab": {"a": -1}}}"#, r#"{"model": {"vocab": {"a": 1e12}}}"#] {
            assert!(Vocabulary::read(bad).is_err(), "{bad}");
        }
    }
}
