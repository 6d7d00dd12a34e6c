//! Recognises other kinds of file that are often mistaken for a model's.

/// Contents that begin with these bytes, and what to say of them.
const BEGINNINGS: &[(&[u8], &str)] = &[
    (b"version https://git-lfs", "is a Git LFS pointer; fetch the file it stands for with `git lfs pull`"),
    (b"PK\x03\x04", "is a zip archive; unpack it and open what it holds"),
    (b"\x1f\x8b", "is compressed by gzip; unpack it and open what it holds"),
    (
        b"\xef\xbb\xbf",
        "begins with a byte-order mark, as text does: it was saved by a text editor; get the file as it was made",
    ),
    (
        b"\xff\xfe",
        "begins with a byte-order mark, as UTF-16 text does: it was saved by a text editor; get the file as it was made",
    ),
];

/// The longest path that a link stored as text is looked for in.
const LONGEST_LINK: usize = 1024;

/// What a file of these contents is and what to do about it, if it is no file of a package. Its first 64 bytes are enough,
/// but for links, of which all must be there.
pub(crate) fn impostor(bytes: &[u8]) -> Option<String> {
    if let Some((_, message)) = BEGINNINGS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some((*message).to_owned());
    }
    let beginning = bytes.trim_ascii_start();
    let begins = |word: &[u8]| beginning.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if begins(b"<!doctype") || begins(b"<html") || begins(b"<?xml") {
        let message =
            "is a web page, not the file it should be: download the file itself (its `raw` or `resolve` address)";
        return Some(message.into());
    }
    link(bytes).map(|target| {
        format!(
            "is the text of a symbolic link to {}: it was copied or checked out where links are not made; copy the file it \
             names to its place",
            crate::error::quote(target)
        )
    })
}

/// The path in a file that holds nothing else.
fn link(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= LONGEST_LINK)?.trim_end();
    let is_path =
        text.starts_with("../") || text.starts_with("./") || text.starts_with('/') || text.starts_with("..\\");
    (is_path && !text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_named_and_models_are_not() {
        for (bytes, words) in [
            (&b"version https://git-lfs.github.com/spec/v1\n"[..], "git lfs pull"),
            (b"PK\x03\x04....", "zip"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"\xef\xbb\xbf{}", "byte-order mark"),
            (b"\n <!DOCTYPE html><html>", "web page"),
            (b"<HTML>", "web page"),
            (b"../../../blobs/0a1b2c\n", "`../../../blobs/0a1b2c`"),
            (b"/srv/models/weight.bin", "symbolic link"),
        ] {
            assert!(impostor(bytes).unwrap().contains(words), "{words}");
        }
        for bytes in [&b""[..], b"\x08\x07\x12\x00", b"{\"a\": 1}", b"..\nsecond line", &[b'/'; 5000]] {
            assert_eq!(impostor(bytes), None, "{bytes:?}");
        }
    }
}
