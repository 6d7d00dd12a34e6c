//! Which token may come next: a transcript's grammar of times and texts, which always taking the likeliest token could
//! break.

use crate::vocabulary::Vocabulary;

/// A transcript of a window is a row of `<|begin|> text <|end|>`; its last part may be a begin alone, where the window's
/// end cuts what is said.
pub(crate) struct Rules<'a> {
    pub(crate) vocabulary: &'a Vocabulary,
    pub(crate) end: usize,
}

impl Rules<'_> {
    /// The token that follows those `written`.
    pub(crate) fn next(&self, logits: &[f32], written: &[usize]) -> usize {
        let times: Vec<f32> = written.iter().filter_map(|&token| self.vocabulary.time(token)).collect();
        let is_time = |back: usize| {
            let token = written.len().checked_sub(back).and_then(|at| written.get(at));
            token.map(|&token| self.vocabulary.time(token).is_some())
        };
        // Before the first time everything is as behind an end.
        let (last, before) = (is_time(1), is_time(2).unwrap_or(true));
        let allowed = |token: usize| match self.vocabulary.time(token) {
            Some(time) => {
                let latest = times.last().copied().unwrap_or(0.0);
                match (last, before) {
                    (None, _) => true,
                    // Behind a begin comes text.
                    (Some(true), true) => false,
                    // Behind an end comes the next begin.
                    (Some(true), false) => time >= latest,
                    (Some(false), _) => time > latest,
                }
            }
            None if token == self.end => last.is_some(),
            None => self.vocabulary.is_text(token) && (last == Some(false) || last == Some(true) && before),
        };
        let best = |wanted: &dyn Fn(usize) -> bool| {
            let candidates = logits.iter().copied().enumerate().filter(|&(token, _)| wanted(token));
            candidates.fold((self.end, f32::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best })
        };
        let (time, _) = best(&|token| allowed(token) && self.vocabulary.time(token).is_some());
        let (other, highest) = best(&|token| allowed(token) && self.vocabulary.time(token).is_none());
        // A time is due where all times together are likelier than any text, though each of them may not be.
        let together: f32 = logits
            .iter()
            .enumerate()
            .filter(|&(token, _)| allowed(token) && self.vocabulary.time(token).is_some())
            .map(|(_, logit)| (logit - highest).exp())
            .sum();
        if highest == f32::NEG_INFINITY || together > 1.0 { time } else { other }
    }
}

/// How likely `token` is by the logits.
pub(crate) fn probability(logits: &[f32], token: usize) -> f32 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - highest).exp()).sum();
    logits.get(token).map_or(0.0, |logit| (logit - highest).exp() / sum)
}

/// What was said from `begin` to `end`, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Segment {
    pub(crate) begin: f32,
    pub(crate) end: f32,
    pub(crate) text: String,
}

/// The segments of a window of so many seconds, and after how many seconds the next window begins.
pub(crate) fn segments(vocabulary: &Vocabulary, written: &[usize], window: f32) -> (Vec<Segment>, f32) {
    let mut segments = Vec::new();
    let (mut begin, mut tokens) = (0.0, Vec::new());
    let mut add = |begin: f32, end: f32, tokens: &mut Vec<usize>| {
        let text = vocabulary.text(tokens);
        tokens.clear();
        if !text.is_empty() {
            segments.push(Segment { begin, end, text });
        }
    };
    let mut open = false;
    for &token in written {
        match vocabulary.time(token) {
            Some(time) => {
                open = tokens.is_empty();
                add(begin, time, &mut tokens);
                begin = time;
            }
            None if vocabulary.is_text(token) => tokens.push(token),
            None => {}
        }
    }
    let cut = open && tokens.is_empty() && begin > 0.0;
    add(begin, window, &mut tokens);
    (segments, if cut { begin } else { window })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens 0 to 2 are texts, 3 is the end, 4 silence, 5 to 9 the times 0 to 4.
    fn vocabulary() -> Vocabulary {
        let times: Vec<_> =
            (0..5).map(|i| serde_json::json!({"id": 5 + i, "content": format!("<|{i}.00|>")})).collect();
        let mut added = vec![serde_json::json!({"id": 3, "content": "<|endoftext|>"})];
        added.push(serde_json::json!({"id": 4, "content": "<|nospeech|>"}));
        added.extend(times);
        let json = serde_json::json!({"added_tokens": added, "model": {"vocab": {"Ġa": 0, "b": 1, "Ġc": 2}}});
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, json.to_string()).unwrap();
        Vocabulary::open(&path).unwrap()
    }

    /// What follows `written` if `wishes` are the likeliest tokens, the first most of all.
    fn next(written: &[usize], wishes: &[usize]) -> usize {
        let mut logits = vec![-20.0; 10];
        for (i, &token) in wishes.iter().enumerate() {
            logits[token] = 9.0 - i as f32;
        }
        Rules { vocabulary: &vocabulary(), end: 3 }.next(&logits, written)
    }

    #[test]
    fn transcripts_begin_with_a_time_and_close_what_they_open() {
        assert_eq!(next(&[], &[0, 3, 4, 6]), 6);
        assert_eq!(next(&[6], &[7, 4, 0]), 0);
        assert_eq!(next(&[6], &[3, 0]), 3);
        assert_eq!(next(&[6, 0], &[6, 5, 7]), 7);
        assert_eq!(next(&[6, 0, 7], &[0, 6, 7]), 7);
        assert_eq!(next(&[6, 0, 7], &[0, 3, 8]), 3);
        assert_eq!(next(&[6, 0, 7, 7], &[8, 1]), 1);
        // Three times that are each less likely than the text, but not together.
        assert_eq!(next(&[6, 0], &[1, 7, 8, 9]), 1);
        let mut logits = vec![-20.0; 10];
        (logits[1], logits[7], logits[8], logits[9]) = (1.0, 0.5, 0.6, 0.4);
        assert_eq!(Rules { vocabulary: &vocabulary(), end: 3 }.next(&logits, &[6, 0]), 8);
        assert!((probability(&[0.0, 0.0], 1) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn windows_follow_each_other_where_speech_is_cut() {
        let vocabulary = vocabulary();
        let segment = |begin, end, text: &str| Segment { begin, end, text: text.to_owned() };
        let of = |written: &[usize]| segments(&vocabulary, written, 4.0);
        assert_eq!(of(&[5, 0, 1, 6, 7, 2, 8]), (vec![segment(0.0, 1.0, "ab"), segment(2.0, 3.0, "c")], 4.0));
        assert_eq!(of(&[5, 0, 7, 7]), (vec![segment(0.0, 2.0, "a")], 2.0));
        assert_eq!(of(&[8]), (vec![], 3.0));
        // What would not get on takes a whole window.
        assert_eq!(of(&[5]), (vec![], 4.0));
        assert_eq!(of(&[]), (vec![], 4.0));
        // Never closed: to the end of the window.
        assert_eq!(of(&[6, 0]), (vec![segment(1.0, 4.0, "a")], 4.0));
    }
}
