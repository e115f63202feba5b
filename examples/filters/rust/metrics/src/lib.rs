// SPDX-License-Identifier: Apache-2.0
//! Counts requests and responses, and measures how long a request takes, in the proxy's own metrics.

use std::time::SystemTime;

use proxy_wasm::hostcalls::{define_metric, increment_metric, record_metric};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType, Status};
use serde::Deserialize;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::<Root>::default());
}}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    prefix: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            prefix: "filter".into(),
        }
    }
}

impl Config {
    fn parse(text: &[u8]) -> Result<Self, String> {
        if text.trim_ascii().is_empty() {
            return Ok(Config::default());
        }
        let config: Config = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let name_ok = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if config.prefix.is_empty() || !config.prefix.bytes().all(name_ok) {
            return Err("\"prefix\" must be letters, digits and _".into());
        }
        Ok(config)
    }
}

#[derive(Clone, Copy, Default)]
struct Metrics {
    requests: u32,
    active: u32,
    duration_ms: u32,
    /// Of 1xx, 2xx and so on.
    responses: [u32; 5],
}

impl Metrics {
    fn define(prefix: &str) -> Result<Self, Status> {
        let define = |kind, name: &str| define_metric(kind, &format!("{prefix}_{name}"));
        let mut metrics = Metrics {
            requests: define(MetricType::Counter, "requests_total")?,
            active: define(MetricType::Gauge, "requests_active")?,
            duration_ms: define(MetricType::Histogram, "request_duration_ms")?,
            responses: [0; 5],
        };
        for (class, metric) in (1..).zip(&mut metrics.responses) {
            *metric = define(MetricType::Counter, &format!("responses_{class}xx_total"))?;
        }
        Ok(metrics)
    }
}

#[derive(Default)]
struct Root {
    metrics: Metrics,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let config = Config::parse(&self.get_plugin_configuration().unwrap_or_default());
        let metrics = config.and_then(|config| {
            Metrics::define(&config.prefix)
                .map_err(|status| format!("cannot define metrics: {status:?}"))
        });
        match metrics {
            Ok(metrics) => self.metrics = metrics,
            Err(why) => {
                log::error!("metrics: configuration refused: {why}");
                return false;
            }
        }
        true
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Measured {
            metrics: self.metrics,
            started: None,
            status: None,
        }))
    }
}

struct Measured {
    metrics: Metrics,
    started: Option<SystemTime>,
    status: Option<u16>,
}

/// A metric that cannot be written is no reason to disturb a request.
fn add(metric: u32, delta: i64) {
    if let Err(status) = increment_metric(metric, delta) {
        log::debug!("metrics: cannot add to metric {metric}: {status:?}");
    }
}

impl Context for Measured {}

impl HttpContext for Measured {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        self.started = Some(self.get_current_time());
        add(self.metrics.requests, 1);
        add(self.metrics.active, 1);
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        // Kept for on_log, where not every proxy still shows the headers.
        let status = self
            .get_http_response_header_bytes(":status")
            .unwrap_or_default();
        self.status = String::from_utf8_lossy(&status).parse().ok();
        Action::Continue
    }

    fn on_log(&mut self) {
        // A request that ended before its headers were complete is logged too, but was never counted.
        let Some(started) = self.started.take() else {
            return;
        };
        add(self.metrics.active, -1);
        let class = usize::from(self.status.unwrap_or(0) / 100);
        if let Some(metric) = class
            .checked_sub(1)
            .and_then(|index| self.metrics.responses.get(index))
        {
            add(*metric, 1);
        }
        let took = self
            .get_current_time()
            .duration_since(started)
            .unwrap_or_default();
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        if let Err(status) = record_metric(self.metrics.duration_ms, took) {
            log::debug!("metrics: cannot record: {status:?}");
        }
    }
}
