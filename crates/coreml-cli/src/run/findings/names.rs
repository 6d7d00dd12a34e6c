//! A detector's class names as converters store them: a dictionary or a list in Python's notation, `{0: 'person', 1: "bird's"}`.

use std::collections::BTreeMap;

/// The most classes.
const MOST: usize = 100_000;

/// The names by class; `None` if the text has another form.
pub(super) fn read(text: &str) -> Option<Vec<String>> {
    let mut rest = Rest(text.trim());
    let mut names = BTreeMap::new();
    let end = if rest.eat('{') { '}' } else { rest.eat('[').then_some(']')? };
    while !rest.eat(end) {
        let class = if end == '}' { rest.class()? } else { names.len() };
        if end == '}' {
            rest.eat(':').then_some(())?;
        }
        names.insert(class, rest.string()?);
        // A comma may follow the last one, too.
        if !rest.eat(',') && !rest.0.trim_start().starts_with(end) {
            return None;
        }
    }
    let count = names.keys().last().map_or(0, |last| last + 1);
    (rest.0.is_empty() && count > 0 && count <= MOST)
        .then(|| (0..count).map(|class| names.remove(&class).unwrap_or_default()).collect())
}

/// What has not been read yet.
struct Rest<'t>(&'t str);

impl Rest<'_> {
    fn eat(&mut self, wanted: char) -> bool {
        let rest = self.0.trim_start().strip_prefix(wanted);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// The number of a class, which JSON has in quotes.
    fn class(&mut self) -> Option<usize> {
        let text = self.0.trim_start();
        if text.starts_with(['"', '\'']) {
            return self.string()?.parse().ok();
        }
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = text.split_at(digits);
        self.0 = rest;
        number.parse().ok()
    }

    fn string(&mut self) -> Option<String> {
        let text = self.0.trim_start();
        let quote = text.chars().next().filter(|c| "'\"".contains(*c))?;
        let mut string = String::new();
        let mut chars = text.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => string.push(chars.next()?.1),
                c if c == quote => {
                    self.0 = &text[at + 1..];
                    return Some(string);
                }
                c => string.push(c),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn dictionaries_and_lists_are_read() {
        let names = |text| read(text).map(|names| names.join("|"));
        assert_eq!(names("{0: 'person', 1: \"bird's\"}").as_deref(), Some("person|bird's"));
        assert_eq!(names(r#"{"0": "a", "2": "c"}"#).as_deref(), Some("a||c"));
        assert_eq!(names(" ['a', 'b\\'s',] ").as_deref(), Some("a|b's"));
        for wrong in [
            "",
            "{",
            "{}",
            "{0: person}",
            "{0: 'a' 1: 'b'}",
            "{0: 'a'} x",
            "{0 'a'}",
            "{-1: 'a'}",
            "{0: 'a",
            "{999999999: 'a'}",
        ] {
            assert_eq!(names(wrong), None, "{wrong}");
        }
    }
}
