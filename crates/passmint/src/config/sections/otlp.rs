//! `otlp`: where traces go.

use crate::config::reader::Reader;

/// The OpenTelemetry collector that is told of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Otlp {
    /// Its URL, without `/v1/traces`; `None`: there are no traces.
    pub endpoint: Option<String>,
    /// How many of a hundred requests are traced, unless the caller says.
    pub sample_percent: u32,
}

impl Otlp {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let endpoint = r.optional_text("otlp.endpoint");
        let url = endpoint.as_deref().unwrap_or_default();
        if url.trim_end_matches('/').ends_with("/v1/traces") {
            r.problem("otlp.endpoint", "must leave out /v1/traces, which is added");
        } else if endpoint.is_some() && !is_plain_http(url) {
            r.problem(
                "otlp.endpoint",
                "must look like http://127.0.0.1:4318: OTLP over plain HTTP, to a collector beside \
                 the server",
            );
        }
        Self { endpoint, sample_percent: r.number("otlp.sample_percent", 100, (0, 100)) }
    }
}

/// There is no TLS to the collector, and no name and password in its URL that a log could show.
fn is_plain_http(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let host = rest.split('/').next().unwrap_or_default();
    !host.is_empty() && rest.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_reached_by_plain_http() {
        for good in
            ["http://127.0.0.1:4318", "http://collector.internal:4318/", "http://[::1]/otlp"]
        {
            assert!(is_plain_http(good), "{good}");
        }
        for bad in [
            "127.0.0.1:4318",
            "https://collector:4318",
            "http://",
            "http:///v1/traces",
            "http://user:password@collector",
            "http://collector?key=value",
            "http://a b",
        ] {
            assert!(!is_plain_http(bad), "{bad}");
        }
    }
}
