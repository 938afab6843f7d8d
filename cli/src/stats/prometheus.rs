//! Statistics in the text format of Prometheus (prometheus.io/docs/instrumenting/exposition_formats), for the textfile collector
//! of its `node_exporter`. Labels have few values: classes, what became of builds, whether a failure was seen here, and ten names
//! at most.

use std::collections::BTreeMap;
use std::io::{self, Write};

use nix_negative_cache_core::counts::Tally;

use super::{HERE, OfGroup, Statistics};

/// With which all names begin.
const PREFIX: &str = "nix_negative_cache";

/// A name and a value of a label.
type Label<'a> = (&'static str, &'a str);

/// Values of one metric, each with its labels.
struct Metric<'a> {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    values: Vec<(Vec<Label<'a>>, f64)>,
}

impl Metric<'_> {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Metric { name, kind, help, values } = self;
        writeln!(out, "# HELP {PREFIX}_{name} {help}\n# TYPE {PREFIX}_{name} {kind}")?;
        for (labels, value) in values {
            let labels: Vec<String> =
                labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            writeln!(out, "{PREFIX}_{name}{labels} {value}")?;
        }
        Ok(())
    }
}

/// The value of a label, as it stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn number(count: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
    let number = count as f64;
    number
}

fn seconds(milliseconds: i64) -> f64 {
    number(milliseconds) / 1000.0
}

impl Statistics {
    /// Prints all of it.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub(super) fn prometheus(&self, out: &mut impl Write) -> io::Result<()> {
        let by_class = |value: fn(&OfGroup) -> f64| {
            self.by_class.iter().map(|(class, of_class)| (vec![("class", *class)], value(of_class))).collect()
        };
        let mut by_origin: BTreeMap<&str, OfGroup> = BTreeMap::new();
        for (origin, of_origin) in &self.by_origin {
            let sum = by_origin.entry(if origin == HERE { HERE } else { "elsewhere" }).or_default();
            sum.refusals.add(of_origin.refusals);
            sum.known += of_origin.known;
        }
        let by_origin = |value: fn(&OfGroup) -> f64| {
            by_origin.iter().map(|(origin, of_origin)| (vec![("origin", *origin)], value(of_origin))).collect()
        };
        let saved_most = self.saved_most();
        let by_name = |value: fn(&Tally) -> f64| {
            saved_most.iter().map(|(name, tally)| (vec![("name", *name)], value(tally))).collect()
        };
        let judged = self
            .judged
            .iter()
            .map(|((class, verdict), count)| (vec![("class", *class), ("verdict", verdict.name())], number(*count)));
        let failed_most = self.failed_most(false);
        let metrics = [
            Metric {
                name: "refusals_total",
                kind: "counter",
                help: "Derivations that were refused, by the class of their failure.",
                values: by_class(|of_class| number(of_class.refusals.refusals)),
            },
            Metric {
                name: "saved_seconds_total",
                kind: "counter",
                help: "How long the refused builds took when they failed, by the class of their failure.",
                values: by_class(|of_class| seconds(of_class.refusals.saved_ms)),
            },
            Metric {
                name: "refusals_by_origin_total",
                kind: "counter",
                help: "Derivations that were refused, by where their failure was seen.",
                values: by_origin(|of_origin| number(of_origin.refusals.refusals)),
            },
            Metric {
                name: "saved_seconds_by_origin_total",
                kind: "counter",
                help: "How long the refused builds took when they failed, by where their failure was seen.",
                values: by_origin(|of_origin| seconds(of_origin.refusals.saved_ms)),
            },
            Metric {
                name: "failed_builds_total",
                kind: "counter",
                help: "Builds that failed, by class and by whether they were recorded or why not.",
                values: judged.collect(),
            },
            Metric {
                name: "known_failures",
                kind: "gauge",
                help: "Derivations that failed when they were last built, by class.",
                values: by_class(|of_class| number(of_class.known)),
            },
            Metric {
                name: "known_failures_by_origin",
                kind: "gauge",
                help: "Derivations that failed when they were last built, by where that was seen.",
                values: by_origin(|of_origin| number(of_origin.known)),
            },
            Metric {
                name: "flaky_derivations",
                kind: "gauge",
                help: "Derivations that failed and have succeeded since.",
                values: vec![(Vec::new(), number(self.flaky))],
            },
            // What is counted by name is forgotten in time, so these may fall.
            Metric {
                name: "refusals_by_name",
                kind: "gauge",
                help: "Refusals of the ten names that saved most.",
                values: by_name(|tally| number(tally.refusals)),
            },
            Metric {
                name: "saved_seconds_by_name",
                kind: "gauge",
                help: "What the ten names saved that saved most.",
                values: by_name(|tally| seconds(tally.saved_ms)),
            },
            Metric {
                name: "failures_by_name",
                kind: "gauge",
                help: "Failures of the ten names that failed most.",
                values: failed_most
                    .iter()
                    .map(|(name, of_name)| (vec![("name", *name)], number(of_name.failures)))
                    .collect(),
            },
        ];
        metrics.iter().filter(|metric| !metric.values.is_empty()).try_for_each(|metric| metric.print(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_label_ends_it() {
        assert_eq!(escaped("a\\b\"c\nd"), r#"a\\b\"c\nd"#);
        let mut statistics = Statistics::default();
        let name = "x\"} 1\nnix_negative_cache_forged 2".to_owned();
        statistics.saved_by_name.insert(name, Tally { refusals: 2, saved_ms: 1500 });
        let mut out = Vec::new();
        statistics.prometheus(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let line = r#"nix_negative_cache_saved_seconds_by_name{name="x\"} 1\nnix_negative_cache_forged 2"} 1.5"#;
        assert!(text.lines().any(|other| other == line), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("nix_negative_cache_forged")), "{text}");
    }
}
