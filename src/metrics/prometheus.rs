// SPDX-License-Identifier: Apache-2.0
//! Metrics in the Prometheus text exposition format, version 0.0.4.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::sync::Arc;

use super::{Metric, Sample, BUCKETS};
use crate::abi::MetricType;

/// A metric and its name.
type Named<'a> = (Arc<[u8]>, &'a Metric);

/// The metrics that share a family, and so a `# TYPE` line.
type Family<'a> = Vec<&'a Named<'a>>;

/// Appends the metrics to `out`, the families in the order of their names.
pub(super) fn render(metrics: &[Named], out: &mut String) {
    for (name, family) in families(metrics) {
        let Some((_, first)) = family.first() else { continue };
        line(out, format_args!("# TYPE {name} {}", word(first.kind())));
        for (raw_name, metric) in &family {
            // Only where it is needed to tell the members apart.
            let label = match family.len() {
                1 => String::new(),
                _ => format!("raw_name=\"{}\"", label_value(raw_name)),
            };
            metric.sample(raw_name, |sample| write_sample(out, &name, &label, sample));
        }
    }
}

/// Finds a name for every family such that no two lines of the exposition can name the same series.
fn families<'a>(metrics: &'a [Named<'a>]) -> BTreeMap<String, Family<'a>> {
    let mut by_kind: BTreeMap<(String, u32), Family> = BTreeMap::new();
    for named in metrics {
        by_kind.entry((sanitized(&named.0), named.1.kind() as u32)).or_default().push(named);
    }
    let mut taken = HashSet::new();
    let mut families = BTreeMap::new();
    let mut displaced = Vec::new();
    // First those that can keep their name, so that a made-up name never takes it from one that had it.
    for ((name, _), family) in by_kind {
        let kind = kind_of(&family);
        if claim(&mut taken, &name, kind) {
            families.insert(name, family);
        } else {
            displaced.push((name, kind, family));
        }
    }
    for (name, kind, family) in displaced {
        let mut other = format!("{name}_{}", word(kind));
        let mut number = 2u32;
        while !claim(&mut taken, &other, kind) {
            other = format!("{name}_{}_{number}", word(kind));
            number += 1;
        }
        families.insert(other, family);
    }
    families
}

/// Takes every name that a family of this name has in the exposition, or none if one is taken.
fn claim(taken: &mut HashSet<String>, name: &str, kind: MetricType) -> bool {
    let suffixes: &[&str] = match kind {
        MetricType::Histogram => &["", "_bucket", "_sum", "_count"],
        MetricType::Counter | MetricType::Gauge => &[""],
    };
    let names = suffixes.iter().map(|suffix| format!("{name}{suffix}"));
    if names.clone().any(|name| taken.contains(&name)) {
        return false;
    }
    taken.extend(names);
    true
}

fn kind_of(family: &Family) -> MetricType {
    family.first().map_or(MetricType::Counter, |(_, metric)| metric.kind())
}

fn word(kind: MetricType) -> &'static str {
    match kind {
        MetricType::Counter => "counter",
        MetricType::Gauge => "gauge",
        MetricType::Histogram => "histogram",
    }
}

fn write_sample(out: &mut String, name: &str, label: &str, sample: &Sample) {
    let labels = match label {
        "" => String::new(),
        label => format!("{{{label}}}"),
    };
    let value = sample.value;
    match sample.kind {
        MetricType::Counter => line(out, format_args!("{name}{labels} {value}")),
        MetricType::Gauge => line(out, format_args!("{name}{labels} {}", value.cast_signed())),
        MetricType::Histogram => {
            let separator = if label.is_empty() { "" } else { "," };
            let bounds = BUCKETS.iter().map(|&(_, bound)| bound).chain(["+Inf"]);
            for (bound, count) in bounds.zip(sample.buckets) {
                line(out, format_args!("{name}_bucket{{{label}{separator}le=\"{bound}\"}} {count}"));
            }
            line(out, format_args!("{name}_sum{labels} {}", sample.sum));
            line(out, format_args!("{name}_count{labels} {value}"));
        }
    }
}

fn line(out: &mut String, text: std::fmt::Arguments) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
    out.push('\n');
}

/// The name with everything replaced that `[a-zA-Z_:][a-zA-Z0-9_:]*` does not allow.
fn sanitized(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len() + 1);
    if name.first().is_none_or(u8::is_ascii_digit) {
        out.push('_');
    }
    out.extend(name.iter().map(|&byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b':' => char::from(byte),
        _ => '_',
    }));
    out
}

/// The name as the value of a label. Two names never give the same, which lossy UTF-8 would not promise.
fn label_value(name: &[u8]) -> String {
    // Escaped once as bytes, which leaves neither control characters nor invalid UTF-8, then as Prometheus wants it.
    let text = name.escape_ascii().to_string();
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::super::Metrics;
    use super::*;

    fn rendered(names: &[(MetricType, &[u8], u64)]) -> String {
        let metrics = Metrics::new();
        for &(kind, name, value) in names {
            let id = metrics.define(kind, name).unwrap();
            metrics.record(id, value).unwrap();
        }
        let mut out = String::new();
        metrics.render_prometheus(&mut out);
        out
    }

    /// The lines without those of buckets.
    fn brief(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.contains("_bucket{")).collect()
    }

    #[test]
    fn golden() {
        let metrics = Metrics::new();
        let counter = metrics.define(MetricType::Counter, b"my-filter.requests").unwrap();
        let gauge = metrics.define(MetricType::Gauge, b"in_flight").unwrap();
        let histogram = metrics.define(MetricType::Histogram, b"2xx latency:ms").unwrap();
        metrics.increment(counter, 3).unwrap();
        metrics.increment(gauge, -2).unwrap();
        for value in [0, 7, 7, 400, 20_000_000_000] {
            metrics.record(histogram, value).unwrap();
        }
        let mut out = "# before\n".to_owned();
        metrics.render_prometheus(&mut out);
        let expected = "\
# before
# TYPE _2xx_latency:ms histogram
_2xx_latency:ms_bucket{le=\"0.5\"} 1
_2xx_latency:ms_bucket{le=\"1\"} 1
_2xx_latency:ms_bucket{le=\"5\"} 1
_2xx_latency:ms_bucket{le=\"10\"} 3
_2xx_latency:ms_bucket{le=\"25\"} 3
_2xx_latency:ms_bucket{le=\"50\"} 3
_2xx_latency:ms_bucket{le=\"100\"} 3
_2xx_latency:ms_bucket{le=\"250\"} 3
_2xx_latency:ms_bucket{le=\"500\"} 4
_2xx_latency:ms_bucket{le=\"1000\"} 4
_2xx_latency:ms_bucket{le=\"2500\"} 4
_2xx_latency:ms_bucket{le=\"5000\"} 4
_2xx_latency:ms_bucket{le=\"10000\"} 4
_2xx_latency:ms_bucket{le=\"30000\"} 4
_2xx_latency:ms_bucket{le=\"60000\"} 4
_2xx_latency:ms_bucket{le=\"300000\"} 4
_2xx_latency:ms_bucket{le=\"600000\"} 4
_2xx_latency:ms_bucket{le=\"1800000\"} 4
_2xx_latency:ms_bucket{le=\"3600000\"} 4
_2xx_latency:ms_bucket{le=\"10000000\"} 4
_2xx_latency:ms_bucket{le=\"100000000\"} 4
_2xx_latency:ms_bucket{le=\"1000000000\"} 4
_2xx_latency:ms_bucket{le=\"10000000000\"} 4
_2xx_latency:ms_bucket{le=\"+Inf\"} 5
_2xx_latency:ms_sum 20000000414
_2xx_latency:ms_count 5
# TYPE in_flight gauge
in_flight -2
# TYPE my_filter_requests counter
my_filter_requests 3
";
        assert_eq!(out, expected);
    }

    #[test]
    fn names_that_become_equal_are_told_apart_by_a_label() {
        let text = rendered(&[(MetricType::Counter, b"a.b", 1), (MetricType::Counter, b"a-b", 2)]);
        assert_eq!(text, "# TYPE a_b counter\na_b{raw_name=\"a-b\"} 2\na_b{raw_name=\"a.b\"} 1\n");

        let text = rendered(&[(MetricType::Histogram, b"h.", 1), (MetricType::Histogram, b"h-", 2)]);
        assert_eq!(text.matches("# TYPE").count(), 1);
        assert!(text.contains("h__bucket{raw_name=\"h-\",le=\"1\"} 0\n"));
        assert!(text.contains("h__bucket{raw_name=\"h.\",le=\"+Inf\"} 1\n"));
        assert!(text.contains("h__sum{raw_name=\"h-\"} 2\nh__count{raw_name=\"h-\"} 1\n"));
    }

    #[test]
    fn a_name_of_several_kinds_becomes_several_names() {
        let text = rendered(&[
            (MetricType::Counter, b"x", 1),
            (MetricType::Gauge, b"x", 2),
            (MetricType::Histogram, b"x", 3),
            (MetricType::Counter, b"x_gauge", 4),
        ]);
        let expected = [
            "# TYPE x counter",
            "x 1",
            "# TYPE x_gauge counter",
            "x_gauge 4",
            "# TYPE x_gauge_2 gauge",
            "x_gauge_2 2",
            "# TYPE x_histogram histogram",
            "x_histogram_sum 3",
            "x_histogram_count 1",
        ];
        assert_eq!(brief(&text), expected);
    }

    #[test]
    fn the_series_of_a_histogram_are_names_too() {
        let text = rendered(&[(MetricType::Counter, b"t_count", 9), (MetricType::Histogram, b"t", 5)]);
        let expected =
            ["# TYPE t histogram", "t_sum 5", "t_count 1", "# TYPE t_count_counter counter", "t_count_counter 9"];
        assert_eq!(brief(&text), expected);
    }

    #[test]
    fn names_are_made_valid() {
        assert_eq!(sanitized(b""), "_");
        assert_eq!(sanitized(b"9a"), "_9a");
        assert_eq!(sanitized(b"a.9:Z_"), "a_9:Z_");
        assert_eq!(sanitized("é\n".as_bytes()), "___");
    }

    #[test]
    fn label_values_are_printable_and_distinct() {
        assert_eq!(label_value(b"a\xff\n\"b"), r#"a\\xff\\n\\\"b"#);
        assert_ne!(label_value(b"\xff"), label_value(b"\\xff"));
    }
}
