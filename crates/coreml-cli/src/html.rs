//! Puts text and data into self-contained HTML pages.

use serde_json::Value as Json;

/// Text with HTML's special characters escaped.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            control if control.is_control() && control != '\n' => escaped.push('\u{FFFD}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The record as a `script` element with data. Nothing in it can end the element.
pub(crate) fn embed(embedded: &Json) -> String {
    let json = embedded.to_string().replace('<', "\\u003c");
    format!("<script type=\"application/json\" id=\"record\">{json}</script>\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_breaks_out() {
        assert_eq!(escape("<a href='x'>&\"\u{1b}"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\u{FFFD}");
        let embedded = embed(&json!({"s": "</script><b>"}));
        assert!(!embedded[40..].starts_with("</script>") && embedded.matches("</script>").count() == 1);
    }
}
