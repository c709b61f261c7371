//! Numbers for the operator, in the text form of Prometheus. None of them names a log, an account or an address.

use cairn_relay_wire::Usage;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    route: String,
    status: u16,
}

/// Counters of one node.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: Family<Of, Counter>,
    seconds: Histogram,
    pub received_bytes: Counter,
    pub sent_bytes: Counter,
    pub appended: Counter,
    pub listeners: Gauge,
    pub connections: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]);
        let (requests, received_bytes, sent_bytes, appended, listeners, connections) = Default::default();
        Self { requests, seconds, received_bytes, sent_bytes, appended, listeners, connections }
    }
}

impl Metrics {
    /// One request was answered.
    pub fn answered(&self, route: &str, status: u16, seconds: f64) {
        self.requests.get_or_create(&Of { route: route.to_owned(), status }).inc();
        self.seconds.observe(seconds);
    }

    /// All numbers.
    pub fn text(&self, usage: &Usage) -> String {
        let mut all = Registry::with_prefix("cairn_relay");
        all.register("requests", "Requests by route and status", self.requests.clone());
        all.register("request_seconds", "How long requests took", self.seconds.clone());
        all.register("received_bytes", "Bytes of chunks received", self.received_bytes.clone());
        all.register("sent_bytes", "Bytes of chunks given out", self.sent_bytes.clone());
        all.register("appended_chunks", "Chunks appended to logs", self.appended.clone());
        all.register("listeners", "Devices that wait for news", self.listeners.clone());
        all.register("connections", "Open connections", self.connections.clone());
        let totals = [("accounts", usage.accounts), ("logs", usage.logs), ("chunks", usage.chunks), ("stored_bytes", usage.bytes)];
        for (name, value) in totals {
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            all.register(name, "Held by this relay", gauge);
        }
        let mut text = String::new();
        // Writing to memory.
        encode(&mut text, &all).ok();
        text
    }
}
