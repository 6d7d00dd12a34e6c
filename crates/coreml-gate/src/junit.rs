//! A report as JUnit XML, which continuous integration shows line by line.

use std::fmt::Write;

use coreml_anywhere::telemetry::report::{Outcome, RunReport};

/// The gate's lines as test cases: one that fails is a failure, one that cannot be judged here is skipped, with the evidence.
pub fn junit(report: &RunReport) -> String {
    let count = |outcome| report.gate.iter().filter(|line| line.outcome == outcome).count();
    let gate = report.config.get("gate").and_then(|name| name.as_str()).unwrap_or("gate");
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let mut write = || -> std::fmt::Result {
        writeln!(
            text,
            "<testsuite name=\"{}: {}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">",
            escape(gate),
            escape(&report.model.name),
            report.gate.len(),
            count(Outcome::Fail),
            count(Outcome::Unavailable)
        )?;
        for line in &report.gate {
            let (name, evidence) = (escape(&line.requirement), escape(&line.evidence));
            write!(text, "  <testcase classname=\"{}\" name=\"{name}\">", escape(gate))?;
            match line.outcome {
                Outcome::Pass => write!(text, "<system-out>{evidence}</system-out>")?,
                Outcome::Fail => write!(text, "<failure message=\"{evidence}\"/>")?,
                Outcome::Unavailable => write!(text, "<skipped message=\"{evidence}\"/>")?,
            }
            writeln!(text, "</testcase>")?;
        }
        writeln!(text, "</testsuite>")
    };
    // Writing to a string does not fail.
    let _ = write();
    text
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no form for these.
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_xml_has_a_meaning_for_is_escaped() {
        assert_eq!(super::escape("a < b & \"c\"\n>"), "a &lt; b &amp; &quot;c&quot; &gt;");
    }
}
