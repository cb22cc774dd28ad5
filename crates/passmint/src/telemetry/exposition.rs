//! The two texts in which metrics are told: `OpenMetrics` 1.0, as the library writes it, and the
//! older text format of Prometheus, which `promtool check metrics` and simple scrapers read.

use std::fmt::Write as _;

/// A text format for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus.
    Plain,
}

impl Exposition {
    /// What a client that sends this `Accept` is given: `OpenMetrics` if it asks for that.
    pub fn for_accept(accept: Option<&str>) -> Self {
        if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            Self::OpenMetrics
        } else {
            Self::Plain
        }
    }

    /// Its `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Rewrites a text in `OpenMetrics`; samples are alike in both formats.
    pub(super) fn of(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Plain => plain(&open_metrics),
        }
    }
}

/// There is no unit and no end; a counter's family is called like its samples, and an info is a
/// gauge that is 1.
fn plain(open_metrics: &str) -> String {
    let mut plain = String::with_capacity(open_metrics.len());
    let mut help = "";
    for line in open_metrics.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            // Told when the type is known, by which the name is.
            help = text.split_once(' ').map_or("", |(_, text)| text);
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|family| family.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            let _ = writeln!(plain, "# HELP {name}{suffix} {help}");
            let _ = writeln!(plain, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            plain.push_str(line);
            plain.push('\n');
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_called_like_their_samples() {
        let text = "# HELP a_logins Logins.\n# TYPE a_logins counter\na_logins_total{b=\"c\"} 1\n\
                    # HELP hash_seconds A hash.\n# TYPE hash_seconds gauge\n\
                    # UNIT hash_seconds seconds\nhash_seconds 0.5\n\
                    # HELP build The build.\n# TYPE build info\nbuild_info{v=\"1\"} 1\n# EOF\n";
        assert_eq!(
            Exposition::Plain.of(text.to_owned()),
            "# HELP a_logins_total Logins.\n# TYPE a_logins_total counter\n\
             a_logins_total{b=\"c\"} 1\n\
             # HELP hash_seconds A hash.\n# TYPE hash_seconds gauge\nhash_seconds 0.5\n\
             # HELP build_info The build.\n# TYPE build_info gauge\nbuild_info{v=\"1\"} 1\n"
        );
    }

    #[test]
    fn prometheus_gets_openmetrics_and_a_person_plain_text() {
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*;q=0.1";
        assert_eq!(Exposition::for_accept(Some(prometheus)), Exposition::OpenMetrics);
        for other in [None, Some("*/*"), Some("text/plain;version=0.0.4")] {
            assert_eq!(Exposition::for_accept(other), Exposition::Plain);
        }
    }
}
