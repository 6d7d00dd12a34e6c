//! Verdicts as JUnit XML, which continuous integration shows line by line.

use std::fmt::Write;

use coreml_anywhere::telemetry::report::{GateLine, Outcome, RunReport};

/// A line of a suite.
#[derive(Debug, Clone)]
pub struct Case {
    /// What was asked for.
    pub name: String,
    /// The outcome.
    pub outcome: Outcome,
    /// The evidence for the verdict.
    pub evidence: String,
}

/// The gate's lines as test cases: one that fails is a failure, one that cannot be judged here is skipped, with the evidence.
pub fn junit(report: &RunReport) -> String {
    let gate = report.config.get("gate").and_then(|name| name.as_str()).unwrap_or("gate");
    let case = |line: &GateLine| Case {
        name: line.requirement.clone(),
        outcome: line.outcome,
        evidence: line.evidence.clone(),
    };
    suite(gate, &report.model.name, &report.gate.iter().map(case).collect::<Vec<_>>())
}

/// Cases that `judge` decided for `model`.
pub fn suite(judge: &str, model: &str, cases: &[Case]) -> String {
    let count = |outcome| cases.iter().filter(|case| case.outcome == outcome).count();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let mut write = || -> std::fmt::Result {
        writeln!(
            text,
            "<testsuite name=\"{}: {}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">",
            escape(judge),
            escape(model),
            cases.len(),
            count(Outcome::Fail),
            count(Outcome::Unavailable)
        )?;
        for case in cases {
            let (name, evidence) = (escape(&case.name), escape(&case.evidence));
            write!(text, "  <testcase classname=\"{}\" name=\"{name}\">", escape(judge))?;
            match case.outcome {
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
