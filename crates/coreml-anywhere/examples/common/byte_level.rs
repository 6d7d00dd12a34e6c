//! How byte-level vocabularies write each byte as a visible character: as itself if it is visible, else as one beyond
//! the Latin-1 characters.

use std::collections::HashMap;

/// The character of each byte.
pub(crate) fn characters() -> Vec<char> {
    let mut unseen = '\u{100}'..;
    let visible = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    (0..=255).map(|byte| if visible(byte) { char::from(byte) } else { unseen.next().unwrap_or('?') }).collect()
}

/// The byte of each character.
pub(crate) fn bytes() -> HashMap<char, u8> {
    characters().into_iter().zip(0..=255).collect()
}
