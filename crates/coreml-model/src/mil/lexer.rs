//! Tokens and their positions.

use std::borrow::Cow;

use crate::error::{ReadError, ReadErrorKind, quote};

/// The pieces of the text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'a> {
    /// A name, a number, or a key word.
    Word(&'a str),
    /// What quotation marks enclose.
    Text(Text<'a>),
    /// One of `()[]{}<>=,;`.
    Symbol(char),
    /// `->`
    Arrow,
    End,
}

/// What quotation marks enclose; [`Lexer::unescape`] says what it means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Text<'a> {
    raw: &'a str,
    /// Where it begins.
    at: usize,
    escaped: bool,
}

/// Reads token after token, with a look at the next one.
pub(super) struct Lexer<'a> {
    text: &'a str,
    /// Behind the next token.
    at: usize,
    /// Where the next token begins.
    start: usize,
    next: Token<'a>,
}

const SYMBOLS: &[u8] = b"()[]{}<>=,;";

/// What a byte is to the lexer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Class {
    /// Part of a name or a number.
    Word,
    Blank,
    Symbol,
    Quote,
}

/// The class of each byte: text is long, and this is asked of all of it.
const CLASSES: [Class; 256] = {
    let mut classes = [Class::Word; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::as_conversions, reason = "below 256")]
        if (byte as u8).is_ascii_whitespace() {
            classes[byte] = Class::Blank;
        }
        byte += 1;
    }
    let mut symbol = 0;
    while symbol < SYMBOLS.len() {
        #[expect(clippy::as_conversions, reason = "a byte as an index")]
        let byte = SYMBOLS[symbol] as usize;
        classes[byte] = Class::Symbol;
        symbol += 1;
    }
    classes[b'"' as usize] = Class::Quote;
    classes
};

fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

/// How many bytes from `at` on are as wanted.
#[inline(always)]
fn run(bytes: &[u8], at: usize, wanted: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter().position(|&byte| !wanted(byte)).unwrap_or(rest.len())
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, ReadError> {
        let mut lexer = Self { text, at: 0, start: 0, next: Token::End };
        lexer.advance()?;
        Ok(lexer)
    }

    /// The next token, left where it is.
    pub(super) fn peek(&self) -> Token<'a> {
        self.next
    }

    /// Where the next token begins.
    pub(super) fn position(&self) -> usize {
        self.start
    }

    /// How much text follows the next token.
    pub(super) fn bytes_left(&self) -> usize {
        self.text.len() - self.at
    }

    /// The next token, taken.
    pub(super) fn take(&mut self) -> Result<Token<'a>, ReadError> {
        let token = self.next;
        self.advance()?;
        Ok(token)
    }

    /// Whether the symbol is next; if so it is taken.
    pub(super) fn skip(&mut self, symbol: char) -> Result<bool, ReadError> {
        let found = self.next == Token::Symbol(symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// Whether the next word is followed by `(`, as the type of an operation without results is.
    pub(super) fn begins_call(&self) -> bool {
        matches!(self.next, Token::Word(_)) && self.after_next() == Some('(')
    }

    /// Whether the next word begins a value with its type, and not a name.
    pub(super) fn begins_value(&self) -> bool {
        matches!(self.next, Token::Word(_)) && matches!(self.after_next(), Some('(' | '<'))
    }

    /// The character after the next token and blanks.
    fn after_next(&self) -> Option<char> {
        self.text.get(self.at..)?.trim_ascii_start().chars().next()
    }

    /// Takes the symbol, which must be next.
    pub(super) fn expect(&mut self, symbol: char) -> Result<(), ReadError> {
        if self.skip(symbol)? { Ok(()) } else { Err(self.unexpected(&format!("`{symbol}`"))) }
    }

    /// Takes `->`, which must be next.
    pub(super) fn arrow(&mut self) -> Result<(), ReadError> {
        match self.next {
            Token::Arrow => self.advance(),
            _ => Err(self.unexpected("`->`")),
        }
    }

    /// Takes a word, which must be next: `what`.
    pub(super) fn word(&mut self, what: &str) -> Result<&'a str, ReadError> {
        match self.next {
            Token::Word(word) => {
                self.advance()?;
                Ok(word)
            }
            _ => Err(self.unexpected(what)),
        }
    }

    /// An error about the next token.
    pub(super) fn unexpected(&self, expected: &str) -> ReadError {
        let found = match self.next {
            Token::Word(word) => quote(word).to_string(),
            Token::Text(text) => format!("the text {}", quote(text.raw)),
            Token::Symbol(symbol) => format!("`{symbol}`"),
            Token::Arrow => "`->`".to_owned(),
            Token::End => "the end".to_owned(),
        };
        self.refuse_at(self.start, &format!("expected {expected}, found {found}"))
    }

    /// An error about what begins at `position`.
    pub(super) fn refuse_at(&self, position: usize, message: &str) -> ReadError {
        ReadError::new(ReadErrorKind::Format, format!("{}: {message}", self.place(position)))
    }

    /// Line and column of `position`, both from 1.
    pub(super) fn place(&self, position: usize) -> String {
        let before = self.text.get(..position).unwrap_or(self.text);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        format!("line {line}, column {column}")
    }

    fn advance(&mut self) -> Result<(), ReadError> {
        let bytes = self.text.as_bytes();
        let mut at = self.at;
        loop {
            at += run(bytes, at, |byte| class(byte) == Class::Blank);
            if !matches!(bytes.get(at..), Some([b'/', b'/', ..])) {
                break;
            }
            at += run(bytes, at, |byte| byte != b'\n');
        }
        self.start = at;
        let Some(&first) = bytes.get(at) else {
            (self.at, self.next) = (at, Token::End);
            return Ok(());
        };
        self.next = match class(first) {
            Class::Quote => {
                let text = self.quoted(at + 1)?;
                at = text.at + text.raw.len() + 1;
                Token::Text(text)
            }
            Class::Symbol => {
                at += 1;
                Token::Symbol(char::from(first))
            }
            _ if first == b'-' && bytes.get(at + 1) == Some(&b'>') => {
                at += 2;
                Token::Arrow
            }
            _ => {
                at += run(bytes, at, |byte| class(byte) == Class::Word);
                // Words end before a character of one byte, so both ends lie between characters.
                Token::Word(self.text.get(self.start..at).unwrap_or_default())
            }
        };
        self.at = at;
        Ok(())
    }

    /// The text from `begin` to the closing quotation mark.
    fn quoted(&self, begin: usize) -> Result<Text<'a>, ReadError> {
        let rest = self.text.get(begin..).unwrap_or_default();
        let (mut end, mut escaped) = (0, false);
        loop {
            let bytes = rest.as_bytes().get(end..).unwrap_or_default();
            match bytes.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
                Some(plain) if bytes.get(plain) == Some(&b'"') => {
                    let raw = rest.get(..end + plain).unwrap_or_default();
                    return Ok(Text { raw, at: begin, escaped });
                }
                // Whatever follows a backslash does not end the text.
                Some(plain) => (end, escaped) = (end + plain + 2, true),
                None => return Err(self.refuse_at(begin - 1, "a text does not end")),
            }
        }
    }

    /// What a text means.
    pub(super) fn unescape(&self, text: Text<'a>) -> Result<Cow<'a, str>, ReadError> {
        if !text.escaped {
            return Ok(Cow::Borrowed(text.raw));
        }
        let mut meant = String::with_capacity(text.raw.len());
        let mut characters = text.raw.char_indices();
        while let Some((offset, character)) = characters.next() {
            if character != '\\' {
                meant.push(character);
                continue;
            }
            let bad = || self.refuse_at(text.at + offset, "this escape is not one of the format's");
            meant.push(match characters.next().map(|(_, escaped)| escaped) {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('0') => '\0',
                Some('x') => code(&mut characters, 2).ok_or_else(bad)?,
                Some('u') => code(&mut characters, 4).ok_or_else(bad)?,
                Some(quoted @ ('"' | '\\' | '\'' | '/')) => quoted,
                _ => return Err(bad()),
            });
        }
        Ok(Cow::Owned(meant))
    }
}

/// The character of the next so many hexadecimal digits.
fn code(characters: &mut std::str::CharIndices<'_>, digits: usize) -> Option<char> {
    let mut code = 0;
    for _ in 0..digits {
        code = code * 16 + characters.next()?.1.to_digit(16)?;
    }
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<Token<'_>>, ReadError> {
        let mut lexer = Lexer::new(text)?;
        let mut tokens = Vec::new();
        while lexer.peek() != Token::End {
            if let Token::Text(text) = lexer.peek() {
                lexer.unescape(text)?;
            }
            tokens.push(lexer.take()?);
        }
        Ok(tokens)
    }

    #[test]
    fn words_numbers_texts_and_symbols_are_told_apart() {
        let found = tokens("a=-0x1p-3;// no\n\"x\\n\\\"\\u00e4ö\"->?é").unwrap();
        let (text, symbol) = (Text { raw: r#"x\n\"\u00e4ö"#, at: 17, escaped: true }, Token::Symbol);
        let [a, number, rest] = ["a", "-0x1p-3", "?é"].map(Token::Word);
        assert_eq!(found, [a, symbol('='), number, symbol(';'), Token::Text(text), Token::Arrow, rest]);
        assert_eq!(Lexer::new("").unwrap().unescape(text).unwrap(), "x\n\"äö");
    }

    #[test]
    fn errors_name_line_and_column() {
        let error = tokens("a\n  ö \"b").unwrap_err();
        assert!(error.to_string().contains("line 2, column 5: a text does not end"), "{error}");
        for bad in ["\"\\q\"", "\"\\x1\"", "\"\\ud800\"", "\"a\\"] {
            assert!(tokens(bad).is_err(), "{bad}");
        }
    }
}
