//! The page: which parts of a record are shown where.

use serde_json::{Value as Json, json};

use super::charts::{self, Moment, Stage};
use super::html::{MIB, MS, PERCENT, PLAIN, US, WHOLE, form, number};
use super::treemap::{self, Tile};
use crate::baseline::{Line, compare, samples};
use crate::html::{embed, escape};
use crate::stats;

/// Percentiles that are shown, by the names they have in records.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)];

/// Timed predictions that belong together.
struct Series {
    title: String,
    /// Where the record has it.
    path: String,
    samples: Vec<f64>,
    /// When each began, in seconds, or which it was.
    times: Vec<f64>,
}

impl Series {
    fn percentile(&self, name: &str) -> String {
        match self.path.as_str() {
            "/record" => format!("/record/metrics/latency_{name}/value"),
            run => format!("{run}/latency_ms/{name}"),
        }
    }
}

/// The data embedded in the page: the unchanged record, and what the page adds to it.
pub(super) fn embedded(record: Json, baseline: Option<Json>, tolerance: f64) -> Json {
    let mut embedded = json!({"record": record, "baseline": baseline, "derived": []});
    let derived: Vec<Json> = series(&embedded)
        .iter()
        .map(|series| {
            let interval = |(name, quantile): (&str, f64)| {
                let interval = stats::interval(&series.samples, quantile)?;
                Some((name.to_owned(), json!([interval.low, interval.high])))
            };
            let intervals: serde_json::Map<String, Json> = QUANTILES.into_iter().filter_map(interval).collect();
            let before = before(&embedded, series).unwrap_or_default();
            let lines = compare(&series.samples, &before, tolerance);
            json!({
                "intervals": intervals, "warnings": stats::warnings(&series.samples),
                "comparison": lines.iter().map(Line::json).collect::<Vec<_>>(),
            })
        })
        .collect();
    embedded["derived"] = derived.into();
    embedded
}

fn series(embedded: &Json) -> Vec<Series> {
    let record = &embedded["record"];
    if let Some(runs) = record["runs"].as_array() {
        let one = |(i, run): (usize, &Json)| {
            let samples = samples(&run["latency_ms"]["samples"]);
            let times = (0..samples.len()).map(|i| i as f64).collect();
            Series { title: title(run), path: format!("/record/runs/{i}"), samples, times }
        };
        return runs.iter().enumerate().map(one).collect();
    }
    let samples = samples(&record["samples_ms"]);
    let stages = record["timeline"]["stages"].as_array();
    let predictions = stages.and_then(|stages| stages.iter().find(|stage| stage["name"] == "predictions"));
    let mut time = predictions.and_then(|stage| stage["from_s"].as_f64()).unwrap_or(0.0);
    let times = samples
        .iter()
        .map(|sample| {
            let began = time;
            time += sample / 1e3;
            began
        })
        .collect();
    vec![Series { title: String::new(), path: "/record".into(), samples, times }]
}

/// What distinguishes a run of a grid.
fn title(run: &Json) -> String {
    let text = |key: &str| run[key].as_str().map(str::to_owned);
    let mut parts: Vec<String> = text("served_by").into_iter().collect();
    parts.extend(run["threads"].as_u64().map(|n| format!("{n} thread{}", if n == 1 { "" } else { "s" })));
    parts.extend(run["batch"].as_u64().filter(|&n| n > 1).map(|n| format!("batch {n}")));
    parts.extend(run["concurrency"].as_u64().filter(|&n| n > 1).map(|n| format!("{n} at once")));
    parts.extend(text("compute_units").filter(|units| units != "all"));
    parts.extend(text("low_precision").filter(|precision| precision != "never"));
    parts.extend(text("shape"));
    parts.join(", ")
}

/// The baseline's samples of the same thing.
fn before(embedded: &Json, series: &Series) -> Option<Vec<f64>> {
    let baseline = embedded.get("baseline").filter(|baseline| !baseline.is_null())?;
    let found = match baseline["runs"].as_array() {
        Some(runs) => {
            let same = |run: &&Json| series.title.is_empty() || title(run) == series.title;
            samples(&runs.iter().find(same)?["latency_ms"]["samples"])
        }
        None => samples(&baseline["samples_ms"]),
    };
    (!found.is_empty()).then_some(found)
}

/// The whole page.
pub(super) fn page(embedded: &Json) -> String {
    let record = &embedded["record"];
    let name = record["model"]["name"].as_str().or(record["model"].as_str()).unwrap_or("model");
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, \
         initial-scale=1\"><title>{0}: coreml report</title>\n<style>\n{1}</style></head><body><main>\n<h1>{0}</h1>\n",
        escape(name),
        include_str!("style.css")
    );
    heading(embedded, &mut html);
    let all = series(embedded);
    figures(embedded, &all, &mut html);
    gate(embedded, &mut html);
    for (i, series) in all.iter().enumerate() {
        latency(embedded, i, series, &mut html);
    }
    memory(record, &mut html);
    profile(embedded, &mut html);
    all_figures(embedded, &mut html);
    details(record, &mut html);
    html.push_str("</main>\n");
    html.push_str(&embed(embedded));
    html.push_str(&format!("<script>\n{}</script>\n</body></html>\n", include_str!("page.js")));
    html
}

fn heading(embedded: &Json, html: &mut String) {
    let environment = &embedded["record"]["environment"];
    let text = |key: &str| environment[key].as_str().unwrap_or("?");
    let verdict = embedded["record"]["verdict"].as_str();
    if let Some(verdict) = verdict {
        let words = if verdict == "unavailable" { "inconclusive" } else { verdict };
        let gate = embedded["record"]["config"]["gate"].as_str().unwrap_or("gate");
        html.push_str(&format!("<p><span class=\"verdict {verdict}\">{}: {words}</span></p>\n", escape(gate)));
    }
    html.push_str(&format!(
        "<p class=\"soft\">{}, {} processors, {}, {} on {}, coreml {}</p>\n",
        escape(environment["cpu"].as_str().unwrap_or(text("arch"))),
        number(embedded, "/record/environment/cores", WHOLE),
        escape(text("isa")),
        escape(text("os")),
        escape(text("arch")),
        escape(text("version"))
    ));
    if environment["optimised"] == false {
        html.push_str("<p class=\"fail\">This was a debug build: its times say nothing about speed.</p>\n");
    }
}

fn figures(embedded: &Json, all: &[Series], html: &mut String) {
    let [one] = all else { return };
    let (first, load, throughput) = match one.path.as_str() {
        "/record" => (
            "/record/metrics/first_inference/value".into(),
            "/record/metrics/load_time/value".into(),
            "/record/metrics/throughput/value".into(),
        ),
        run => (format!("{run}/first_ms"), format!("{run}/load_ms"), format!("{run}/throughput_per_s")),
    };
    let cards = [
        ("median latency", number(embedded, &one.percentile("p50"), MS)),
        ("95 % are faster", number(embedded, &one.percentile("p95"), MS)),
        ("99 % are faster", number(embedded, &one.percentile("p99"), MS)),
        ("predictions per second", number(embedded, &throughput, PLAIN)),
        ("first prediction", number(embedded, &first, MS)),
        ("load", number(embedded, &load, MS)),
    ];
    html.push_str("<div class=\"figures\">");
    for (words, shown) in cards {
        html.push_str(&format!("<div class=\"figure\"><b>{shown}</b><span>{words}</span></div>"));
    }
    let peak = "/record/metrics/memory_peak/value";
    if embedded.pointer(peak).is_some() {
        let shown = number(embedded, peak, MIB);
        html.push_str(&format!("<div class=\"figure\"><b>{shown}</b><span>most memory</span></div>"));
    }
    html.push_str("</div>\n");
}

fn gate(embedded: &Json, html: &mut String) {
    let Some(lines) = embedded["record"]["gate"].as_array().filter(|lines| !lines.is_empty()) else { return };
    html.push_str(
        "<section><h2>Verdicts</h2><div class=\"scroll\"><table><thead><tr><th>asked for</th><th>verdict</th><th>evidence</th>\
         </tr></thead><tbody>",
    );
    for line in lines {
        let outcome = line["outcome"].as_str().unwrap_or("?");
        let text = |key: &str| escape(line[key].as_str().unwrap_or(""));
        let words = if outcome == "unavailable" { "cannot be told" } else { outcome };
        html.push_str(&format!(
            "<tr><td class=\"name\">{}</td><td class=\"{outcome}\"><b>{words}</b></td><td class=\"name\">{}</td></tr>",
            text("requirement"),
            text("evidence")
        ));
    }
    html.push_str("</tbody></table></div></section>\n");
}

fn stages(record: &Json) -> Vec<Stage<'_>> {
    let one = |stage: &'_ Json| -> Option<(f64, f64)> { Some((stage["from_s"].as_f64()?, stage["to_s"].as_f64()?)) };
    let stages = record["timeline"]["stages"].as_array().into_iter().flatten();
    stages
        .filter_map(|stage| one(stage).map(|(from, to)| Stage { name: stage["name"].as_str().unwrap_or(""), from, to }))
        .collect()
}

fn latency(embedded: &Json, i: usize, series: &Series, html: &mut String) {
    let title = if series.title.is_empty() { "Latency".into() } else { format!("Latency: {}", escape(&series.title)) };
    html.push_str(&format!("<section><h2>{title}</h2>"));
    if series.samples.is_empty() {
        html.push_str("<p class=\"soft\">The record has no samples.</p></section>\n");
        return;
    }
    html.push_str("<p class=\"soft\">");
    let shown: Vec<String> = QUANTILES
        .iter()
        .filter(|(name, _)| embedded.pointer(&series.percentile(name)).is_some_and(Json::is_number))
        .map(|(name, _)| {
            let interval = |end: usize| number(embedded, &format!("/derived/{i}/intervals/{name}/{end}"), MS);
            let value = number(embedded, &series.percentile(name), MS);
            format!("{name} {value} (95 % sure: {} to {})", interval(0).trim_end_matches(" ms"), interval(1))
        })
        .collect();
    html.push_str(&shown.join(", "));
    html.push_str(&format!("; {} predictions.</p>", series.samples.len()));
    let marks = QUANTILES.map(|(name, _)| (name, series.percentile(name)));
    let before = before(embedded, series);
    html.push_str(&charts::histogram(&series.samples, before.as_deref(), embedded, &marks));
    let record = &embedded["record"];
    let moments: Vec<Moment<'_>> = record["timeline"]["moments"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|moment| Some(Moment { at: moment["at_s"].as_f64()?, what: moment["what"].as_str()? }))
        .collect();
    let axis = if series.path == "/record" { "s" } else { "prediction" };
    html.push_str(&charts::course(&series.times, &series.samples, &stages(record), &moments, axis));
    if !moments.is_empty() {
        html.push_str("<ol>");
        for (j, moment) in moments.iter().enumerate() {
            let at = number(embedded, &format!("/record/timeline/moments/{j}/at_s"), PLAIN);
            html.push_str(&format!("<li>{} at {at} s</li>", escape(moment.what)));
        }
        html.push_str("</ol>");
    }
    for warning in embedded["derived"][i]["warnings"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        html.push_str(&format!("<p class=\"unavailable\">{}</p>", escape(warning)));
    }
    comparison(embedded, i, html);
    html.push_str("</section>\n");
}

fn comparison(embedded: &Json, i: usize, html: &mut String) {
    let Some(lines) = embedded["derived"][i]["comparison"].as_array().filter(|lines| !lines.is_empty()) else { return };
    html.push_str(
        "<div class=\"scroll\"><table><thead><tr><th>against the baseline</th><th class=\"n\">before</th><th class=\"n\">now</th>\
         <th class=\"n\">ratio</th><th class=\"n\">95 % sure</th><th>verdict</th></tr></thead><tbody>",
    );
    for (j, line) in lines.iter().enumerate() {
        let at = |key: &str, form| number(embedded, &format!("/derived/{i}/comparison/{j}/{key}"), form);
        let verdict = line["verdict"].as_str().unwrap_or("");
        let class = match verdict {
            "slower" => "fail",
            "faster" | "same" => "pass",
            _ => "unavailable",
        };
        html.push_str(&format!(
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{} to {}</td>\
             <td class=\"{class}\"><b>{verdict}</b></td></tr>",
            line["name"].as_str().unwrap_or(""),
            at("before_ms", MS),
            at("now_ms", MS),
            at("ratio", PLAIN),
            at("low", PLAIN),
            at("high", PLAIN)
        ));
    }
    html.push_str("</tbody></table></div>");
}

fn memory(record: &Json, html: &mut String) {
    let points: Vec<(f64, f64)> = record["timeline"]["memory"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|point| Some((point[0].as_f64()?, point[1].as_f64()?)))
        .collect();
    if !points.is_empty() {
        html.push_str(&format!("<section><h2>Memory</h2>{}</section>\n", charts::memory(&points, &stages(record))));
    }
}

fn profile(embedded: &Json, html: &mut String) {
    let profile = &embedded["record"]["profile"];
    let Some(steps) = profile["steps"].as_array().filter(|steps| !steps.is_empty()) else { return };
    let text = |step: &Json, key: &str| step[key].as_str().unwrap_or("").to_owned();
    let tile = |step: &Json| Tile {
        kind: text(step, "operation"),
        name: text(step, "output"),
        us: step["us"].as_f64().unwrap_or(0.0),
    };
    html.push_str("<section><h2>Where the time goes</h2>");
    html.push_str(&treemap::draw(steps.iter().map(tile).collect()));
    html.push_str("<p class=\"soft\">Medians of ");
    html.push_str(&number(embedded, "/record/profile/n", WHOLE));
    html.push_str(" predictions with ");
    html.push_str(&number(embedded, "/record/profile/threads", WHOLE));
    html.push_str(
        " threads. A click on a title sorts.</p><div class=\"scroll\"><table class=\"sorts long\"><thead><tr>",
    );
    for (words, number) in [
        ("#", true),
        ("operation", false),
        ("output", false),
        ("time", true),
        ("share", true),
        ("GFLOP/s", true),
        ("of peak", true),
        ("GB/s", true),
    ] {
        let class = if number { " class=\"n\"" } else { "" };
        html.push_str(&format!("<th{class}><button type=\"button\">{words}</button></th>"));
    }
    html.push_str("</tr></thead><tbody>");
    for (i, step) in steps.iter().enumerate() {
        let cell = |key: &str, form| {
            let path = format!("/record/profile/steps/{i}/{key}");
            let shown = if step[key].is_number() { number(embedded, &path, form) } else { String::new() };
            format!("<td class=\"n\">{shown}</td>")
        };
        html.push_str(&format!(
            "<tr>{}<td class=\"name\">{}</td><td class=\"name\">{}</td>{}{}{}{}{}</tr>",
            cell("position", WHOLE),
            escape(&text(step, "operation")),
            escape(&text(step, "output")),
            cell("us", US),
            cell("share", PERCENT),
            cell("gflops_per_s", PLAIN),
            cell("share_of_peak", PERCENT),
            cell("gb_per_s", PLAIN)
        ));
    }
    html.push_str("</tbody></table></div></section>\n");
}

fn all_figures(embedded: &Json, html: &mut String) {
    let Some(metrics) = embedded["record"]["metrics"].as_object() else { return };
    let baseline = embedded["baseline"]["metrics"].as_object();
    html.push_str("<section><h2>All figures</h2><div class=\"scroll\"><table class=\"sorts long\"><thead><tr>");
    html.push_str("<th><button type=\"button\">figure</button></th><th class=\"n\">value</th>");
    if baseline.is_some() {
        html.push_str("<th class=\"n\">baseline</th>");
    }
    html.push_str("<th class=\"n\">samples</th><th>source, or why there is none</th></tr></thead><tbody>");
    for (name, metric) in metrics {
        let form = form(metric["unit"].as_str().unwrap_or(""));
        let path = format!("/record/metrics/{}", name.replace('~', "~0").replace('/', "~1"));
        let shown =
            |path: &str, key: &str, form| match embedded.pointer(path).is_some_and(|metric| metric[key].is_number()) {
                true => number(embedded, &format!("{path}/{key}"), form),
                false => "–".into(),
            };
        let theirs = baseline.map(|_| {
            format!("<td class=\"n\">{}</td>", shown(&path.replacen("/record", "/baseline", 1), "value", form))
        });
        let source = metric["source"].as_str().or(metric["unavailable"].as_str()).unwrap_or("");
        html.push_str(&format!(
            "<tr><td class=\"name\">{}</td><td class=\"n\">{}</td>{}<td class=\"n\">{}</td><td class=\"name soft\">{}</td></tr>",
            escape(name),
            shown(&path, "value", form),
            theirs.unwrap_or_default(),
            shown(&path, "n", WHOLE),
            escape(source)
        ));
    }
    html.push_str("</tbody></table></div></section>\n");
}

/// How it was measured, who answered, what happened.
fn details(record: &Json, html: &mut String) {
    html.push_str("<section><h2>How it was measured</h2><table><tbody>");
    let mut row = |name: &str, value: &Json| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        html.push_str(&format!("<tr><th>{}</th><td class=\"name\">{}</td></tr>", escape(name), escape(&text)));
    };
    for (name, value) in record["config"].as_object().into_iter().flatten() {
        row(name, value);
    }
    for (backend, count) in record["served_by"].as_object().into_iter().flatten() {
        row(&format!("answered by {backend}"), count);
    }
    for key in ["size_bytes", "function", "specification_version"] {
        if !record["model"][key].is_null() {
            row(&key.replace('_', " "), &record["model"][key]);
        }
    }
    if record["warmup"].is_number() {
        row("warm-up", &record["warmup"]);
    }
    for event in record["events"].as_array().into_iter().flatten() {
        row("event", event);
    }
    html.push_str("</tbody></table></section>\n");
}
