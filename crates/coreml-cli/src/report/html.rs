//! Formats numbers as HTML. Each number names the place in the embedded record that it comes from.

use serde_json::Value as Json;

use crate::html::escape;

/// How a number is written, in parts of its unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) unit: &'static str,
    /// How much of the record's unit is one of this.
    scale: f64,
    decimals: Option<usize>,
}

/// With as many decimals as give three or four digits.
pub(super) const PLAIN: Form = Form { unit: "", scale: 1.0, decimals: None };
pub(super) const MS: Form = Form { unit: " ms", ..PLAIN };
pub(super) const US: Form = Form { unit: " µs", ..PLAIN };
pub(super) const MIB: Form = Form { unit: " MiB", scale: 1_048_576.0, decimals: Some(1) };
pub(super) const PERCENT: Form = Form { unit: " %", scale: 0.01, decimals: Some(1) };
pub(super) const WHOLE: Form = Form { unit: "", scale: 1.0, decimals: Some(0) };

/// The format of a figure with this unit.
pub(super) fn form(unit: &str) -> Form {
    match unit {
        "ms" => MS,
        "bytes" => MIB,
        "1/s" => Form { unit: " /s", ..PLAIN },
        _ => PLAIN,
    }
}

impl Form {
    pub(super) fn text(self, value: f64) -> String {
        let value = value / self.scale;
        let decimals = self.decimals.unwrap_or(match value.abs() {
            0.0 => 0,
            size if size >= 1000.0 => 0,
            size if size >= 100.0 => 1,
            size if size >= 10.0 => 2,
            size if size >= 0.1 => 3,
            size if size >= 1e-3 => 5,
            _ => return format!("{value:.3e}"),
        });
        format!("{value:.decimals$}")
    }
}

/// The attributes that say where a number comes from.
pub(super) fn origin(path: &str, value: f64, form: Form) -> String {
    let scale = if form.scale == 1.0 { String::new() } else { format!(" data-scale=\"{}\"", form.scale) };
    format!("data-path=\"{}\" data-value=\"{value}\"{scale}", escape(path))
}

/// The number at `path` of the embedded record, with its unit; a dash if there is none, with the reason as a tooltip.
pub(super) fn number(embedded: &Json, path: &str, form: Form) -> String {
    let found = embedded.pointer(path);
    match found.and_then(Json::as_f64) {
        Some(value) => {
            let (text, origin) = (form.text(value), origin(path, value, form));
            format!("<data value=\"{value}\" {origin}>{text}</data>{}", form.unit)
        }
        None => {
            let reason =
                found.and_then(|found| found.get("unavailable")).and_then(Json::as_str).unwrap_or("not measured");
            format!("<span class=\"soft\" title=\"{}\">–</span>", escape(reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_say_where_they_come_from_and_names_cannot_break_out() {
        let embedded = json!({"a": {"b": 12.3456}, "c": {"unavailable": "<no>"}});
        let shown = number(&embedded, "/a/b", MS);
        assert_eq!(shown, "<data value=\"12.3456\" data-path=\"/a/b\" data-value=\"12.3456\">12.35</data> ms");
        assert!(number(&embedded, "/c", MS).contains("title=\"&lt;no&gt;\""));
        assert_eq!(MIB.text(3_145_728.0), "3.0");
        assert_eq!(PLAIN.text(0.000_012), "1.200e-5");
    }
}
