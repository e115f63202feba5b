// SPDX-License-Identifier: Apache-2.0
//! The metrics that plugins define: counters, gauges and histograms, shared by all VMs and threads.
//!
//! An id leads to its metric through a table that only grows and has no lock; changing or reading a metric is then one
//! or two atomic operations. Metrics live as long as the registry, as the proxy's own do.

mod prometheus;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

use crate::abi::{MetricType, Status};

/// Metrics at most.
pub const MAX_METRICS: usize = 65_536;
/// Length of a name at most.
pub const MAX_NAME_BYTES: usize = 4096;
/// Length of all names together at most.
pub const MAX_NAMES_BYTES: usize = 16 << 20;

/// The highest value in each bucket of a histogram, and how Prometheus sees it. A last bucket takes what is above.
///
/// The first ones are Envoy's default buckets, so that its dashboards keep working; since values are integers, 0.5 is
/// the bucket of 0. Envoy stops at 3,600,000, an hour in milliseconds. The decades above serve plugins that record
/// microseconds, nanoseconds or bytes.
pub const BUCKETS: [(u64, &str); 23] = [
    (0, "0.5"),
    (1, "1"),
    (5, "5"),
    (10, "10"),
    (25, "25"),
    (50, "50"),
    (100, "100"),
    (250, "250"),
    (500, "500"),
    (1000, "1000"),
    (2500, "2500"),
    (5000, "5000"),
    (10_000, "10000"),
    (30_000, "30000"),
    (60_000, "60000"),
    (300_000, "300000"),
    (600_000, "600000"),
    (1_800_000, "1800000"),
    (3_600_000, "3600000"),
    (10_000_000, "10000000"),
    (100_000_000, "100000000"),
    (1_000_000_000, "1000000000"),
    (10_000_000_000, "10000000000"),
];

/// An id is a place in the table, then these bits, which are the number of the type. Place 0 is left out, so that no id
/// is 0.
const TYPE_BITS: u32 = 2;
const CHUNK: usize = 256;

/// The registry.
pub struct Metrics {
    names: RwLock<Names>,
    // Chunks are made as they are needed and never move, which is what spares readers a lock.
    chunks: Box<[OnceLock<Box<[Slot]>>]>,
}

#[derive(Default)]
struct Names {
    // By type the id, or 0.
    ids: BTreeMap<Arc<[u8]>, [u32; 3]>,
    count: usize,
    bytes: usize,
}

// A cache line each: workers that write one metric must not slow down the readers of its neighbour's state.
#[repr(align(64))]
#[derive(Default)]
struct Slot(OnceLock<Metric>);

enum Metric {
    Counter(AtomicU64),
    // An i64 in two's complement.
    Gauge(AtomicU64),
    Histogram(Box<Histogram>),
}

#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    sum: AtomicU64,
}

/// The state of one metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample<'a> {
    /// What kind of metric it is.
    pub kind: MetricType,
    /// The name as the plugin gave it, which need not be text.
    pub name: &'a [u8],
    /// The value; of a gauge the bits of an `i64`; of a histogram how many values were recorded.
    pub value: u64,
    /// Of a histogram the sum of the values, modulo 2^64; else 0.
    pub sum: u64,
    /// Of a histogram, for each of [`BUCKETS`] and then for infinity, how many values were not above it; else empty.
    pub buckets: &'a [u64],
}

impl Metric {
    fn new(kind: MetricType) -> Self {
        match kind {
            MetricType::Counter => Self::Counter(AtomicU64::new(0)),
            MetricType::Gauge => Self::Gauge(AtomicU64::new(0)),
            MetricType::Histogram => Self::Histogram(Box::default()),
        }
    }

    fn kind(&self) -> MetricType {
        match self {
            Self::Counter(_) => MetricType::Counter,
            Self::Gauge(_) => MetricType::Gauge,
            Self::Histogram(_) => MetricType::Histogram,
        }
    }

    /// Hands the state of this moment to `f`.
    fn sample<R>(&self, name: &[u8], f: impl FnOnce(&Sample) -> R) -> R {
        let kind = self.kind();
        match self {
            Self::Counter(value) | Self::Gauge(value) => {
                f(&Sample { kind, name, value: value.load(Ordering::Relaxed), sum: 0, buckets: &[] })
            }
            Self::Histogram(histogram) => {
                let sum = histogram.sum.load(Ordering::Relaxed);
                let mut value = 0u64;
                let buckets = histogram.buckets.each_ref().map(|count| {
                    value = value.wrapping_add(count.load(Ordering::Relaxed));
                    value
                });
                // The count is what the buckets add up to, so the two agree even while others record.
                f(&Sample { kind, name, value, sum, buckets: &buckets })
            }
        }
    }
}

impl Histogram {
    fn record(&self, value: u64) {
        let index = BUCKETS.partition_point(|&(bound, _)| bound < value);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        let chunks = (0..MAX_METRICS / CHUNK).map(|_| OnceLock::new()).collect();
        Self { names: RwLock::default(), chunks }
    }

    /// The id of the metric of this kind and name, which is made if it is new. One name may be used for each kind.
    ///
    /// # Errors
    /// `InternalFailure` beyond [`MAX_METRICS`], [`MAX_NAME_BYTES`] or [`MAX_NAMES_BYTES`].
    pub fn define(&self, kind: MetricType, name: &[u8]) -> Result<u32, Status> {
        // Every VM defines the metrics of its plugin again, so mostly the name is known.
        if let Some(id) = self.names.read().id(kind, name) {
            return Ok(id);
        }
        let mut names = self.names.write();
        if let Some(id) = names.id(kind, name) {
            return Ok(id);
        }
        let bytes = names.bytes + name.len();
        if name.len() > MAX_NAME_BYTES || bytes > MAX_NAMES_BYTES || names.count >= MAX_METRICS {
            return Err(Status::InternalFailure);
        }
        let place = names.count;
        let id = id_of(place, kind).ok_or(Status::InternalFailure)?;
        let chunk = self.chunks.get(place / CHUNK).ok_or(Status::InternalFailure)?;
        let chunk = chunk.get_or_init(|| (0..CHUNK).map(|_| Slot::default()).collect());
        let slot = chunk.get(place % CHUNK).ok_or(Status::InternalFailure)?;
        slot.0.set(Metric::new(kind)).map_err(|_| Status::InternalFailure)?;
        names.count += 1;
        names.bytes = bytes;
        names.ids.entry(name.into()).or_default()[kind as usize] = id;
        Ok(id)
    }

    /// Adds to a counter or a gauge; a gauge may also fall. Both wrap at 64 bits.
    ///
    /// # Errors
    /// `NotFound` without such a metric; `BadArgument` for a histogram, and for a counter that would not grow.
    pub fn increment(&self, id: u32, delta: i64) -> Result<(), Status> {
        match self.metric(id)? {
            Metric::Counter(value) if delta > 0 => value.fetch_add(delta.cast_unsigned(), Ordering::Relaxed),
            Metric::Gauge(value) => value.fetch_add(delta.cast_unsigned(), Ordering::Relaxed),
            Metric::Counter(_) | Metric::Histogram(_) => return Err(Status::BadArgument),
        };
        Ok(())
    }

    /// Adds to a counter, sets a gauge (to the bits of an `i64`), records in a histogram.
    ///
    /// # Errors
    /// `NotFound` without such a metric.
    pub fn record(&self, id: u32, value: u64) -> Result<(), Status> {
        match self.metric(id)? {
            Metric::Counter(counter) => {
                counter.fetch_add(value, Ordering::Relaxed);
            }
            Metric::Gauge(gauge) => gauge.store(value, Ordering::Relaxed),
            Metric::Histogram(histogram) => histogram.record(value),
        }
        Ok(())
    }

    /// The value of a counter, or of a gauge as the bits of an `i64`.
    ///
    /// # Errors
    /// `NotFound` without such a metric, `BadArgument` for a histogram.
    pub fn get(&self, id: u32) -> Result<u64, Status> {
        match self.metric(id)? {
            Metric::Counter(value) | Metric::Gauge(value) => Ok(value.load(Ordering::Relaxed)),
            Metric::Histogram(_) => Err(Status::BadArgument),
        }
    }

    /// Calls `f` for each metric, in the order of the bytes of the names. No lock is held meanwhile, so `f` may use the
    /// registry; what it defines is not visited.
    pub fn visit(&self, f: &mut dyn FnMut(&Sample)) {
        for (name, metric) in self.all() {
            metric.sample(&name, &mut *f);
        }
    }

    /// Appends all metrics in the Prometheus text exposition format, version 0.0.4.
    ///
    /// In names, what Prometheus does not allow becomes `_`. Metrics of one kind whose names become equal are one
    /// family and get the label `raw_name`, in which bytes outside printable ASCII are escaped as in Rust. A metric whose
    /// name is then still that of another kind gets its own kind as a suffix (`_counter`, `_gauge`, `_histogram`), and
    /// a number if that is not enough. Gauges are signed; histograms have the buckets in [`BUCKETS`].
    pub fn render_prometheus(&self, out: &mut String) {
        prometheus::render(&self.all(), out);
    }

    /// All metrics by name, then by kind.
    fn all(&self) -> Vec<(Arc<[u8]>, &Metric)> {
        let names = self.names.read();
        let ids = names.ids.iter().flat_map(|(name, ids)| ids.iter().map(move |&id| (name, id)));
        // 0 stands for a kind that the name is not used for, and leads to no metric.
        ids.filter_map(|(name, id)| Some((name.clone(), self.metric(id).ok()?))).collect()
    }

    fn metric(&self, id: u32) -> Result<&Metric, Status> {
        let place = (id >> TYPE_BITS).checked_sub(1).ok_or(Status::NotFound)? as usize;
        let chunk = self.chunks.get(place / CHUNK).and_then(OnceLock::get);
        let metric = chunk.and_then(|chunk| chunk.get(place % CHUNK)?.0.get());
        metric.filter(|metric| id_of(place, metric.kind()) == Some(id)).ok_or(Status::NotFound)
    }
}

impl Names {
    fn id(&self, kind: MetricType, name: &[u8]) -> Option<u32> {
        let id = self.ids.get(name)?[kind as usize];
        (id != 0).then_some(id)
    }
}

fn id_of(place: usize, kind: MetricType) -> Option<u32> {
    let place = u32::try_from(place + 1).ok()?;
    Some(place << TYPE_BITS | kind as u32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use std::thread;

    use super::*;

    #[test]
    fn an_id_tells_the_type_and_is_the_same_for_the_same_name() {
        let metrics = Metrics::new();
        let kinds = [MetricType::Counter, MetricType::Gauge, MetricType::Histogram];
        let mut ids = Vec::new();
        for name in [&b"a"[..], b"b", b""] {
            for kind in kinds {
                let id = metrics.define(kind, name).unwrap();
                assert_eq!((id % 4, metrics.define(kind, name)), (kind as u32, Ok(id)));
                ids.push(id);
            }
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 9);
        assert!(ids[0] != 0);
    }

    #[test]
    fn counters_only_grow() {
        let metrics = Metrics::new();
        let id = metrics.define(MetricType::Counter, b"c").unwrap();
        metrics.increment(id, 2).unwrap();
        metrics.record(id, 5).unwrap();
        for delta in [0, -1, i64::MIN] {
            assert_eq!(metrics.increment(id, delta), Err(Status::BadArgument));
        }
        assert_eq!(metrics.get(id), Ok(7));
    }

    #[test]
    fn gauges_are_set_and_move_both_ways() {
        let metrics = Metrics::new();
        let id = metrics.define(MetricType::Gauge, b"g").unwrap();
        metrics.record(id, 5).unwrap();
        metrics.increment(id, -8).unwrap();
        assert_eq!(metrics.get(id).unwrap().cast_signed(), -3);
        metrics.increment(id, 0).unwrap();
        metrics.record(id, 1).unwrap();
        assert_eq!(metrics.get(id), Ok(1));
    }

    #[test]
    fn histograms_count_in_buckets() {
        let metrics = Metrics::new();
        let id = metrics.define(MetricType::Histogram, b"h").unwrap();
        for value in [0, 1, 2, 5, 6, 10_000_000_000, 10_000_000_001, u64::MAX] {
            metrics.record(id, value).unwrap();
        }
        assert_eq!(metrics.increment(id, 1), Err(Status::BadArgument));
        assert_eq!(metrics.get(id), Err(Status::BadArgument));
        let mut seen = 0;
        metrics.visit(&mut |sample| {
            seen += 1;
            assert_eq!((sample.kind, sample.value), (MetricType::Histogram, 8));
            assert_eq!(sample.sum, 20_000_000_015u64.wrapping_add(u64::MAX));
            assert_eq!(sample.buckets.len(), BUCKETS.len() + 1);
            assert_eq!(sample.buckets[..4], [1, 2, 4, 5]);
            assert_eq!(sample.buckets[BUCKETS.len() - 2..], [5, 6, 8]);
        });
        assert_eq!(seen, 1);
    }

    #[test]
    fn bucket_bounds_rise_and_read_as_they_are() {
        assert!(BUCKETS.is_sorted_by(|a, b| a.0 < b.0));
        for (bound, text) in &BUCKETS[1..] {
            assert_eq!(*text, bound.to_string());
        }
    }

    #[test]
    fn unknown_ids_are_not_found() {
        let metrics = Metrics::new();
        let id = metrics.define(MetricType::Counter, b"c").unwrap();
        for unknown in [0, 1, 3, id + 1, id + 3, id + 4, u32::MAX] {
            assert_eq!(metrics.increment(unknown, 1), Err(Status::NotFound));
            assert_eq!(metrics.record(unknown, 1), Err(Status::NotFound));
            assert_eq!(metrics.get(unknown), Err(Status::NotFound));
        }
    }

    #[test]
    fn visits_go_by_name_and_may_use_the_registry() {
        let metrics = Metrics::new();
        metrics.define(MetricType::Gauge, b"b").unwrap();
        metrics.define(MetricType::Counter, b"c").unwrap();
        metrics.define(MetricType::Counter, b"b").unwrap();
        metrics.define(MetricType::Histogram, b"a").unwrap();
        let mut seen = Vec::new();
        metrics.visit(&mut |sample| {
            metrics.define(MetricType::Counter, b"new").unwrap();
            seen.push((sample.name.to_vec(), sample.kind));
        });
        let expected = [
            (b"a", MetricType::Histogram),
            (b"b", MetricType::Counter),
            (b"b", MetricType::Gauge),
            (b"c", MetricType::Counter),
        ];
        assert_eq!(seen, expected.map(|(name, kind)| (name.to_vec(), kind)));
    }

    #[test]
    fn guests_cannot_fill_the_host() {
        let metrics = Metrics::new();
        let long = [b'n'; MAX_NAME_BYTES + 1];
        assert_eq!(metrics.define(MetricType::Counter, &long), Err(Status::InternalFailure));
        let first = metrics.define(MetricType::Counter, &long[1..]).unwrap();
        let mut last = first;
        for number in 1..MAX_METRICS as u32 {
            last = metrics.define(MetricType::Gauge, &number.to_le_bytes()).unwrap();
        }
        assert_eq!(metrics.define(MetricType::Counter, b"one more"), Err(Status::InternalFailure));
        assert_eq!(metrics.define(MetricType::Counter, &long[1..]), Ok(first));
        metrics.record(last, 3).unwrap();
        assert_eq!((metrics.get(last), metrics.get(first)), (Ok(3), Ok(0)));

        let metrics = Metrics::new();
        let mut name = [0; MAX_NAME_BYTES];
        for number in 0..(MAX_NAMES_BYTES / MAX_NAME_BYTES) as u32 {
            name[..4].copy_from_slice(&number.to_le_bytes());
            metrics.define(MetricType::Gauge, &name).unwrap();
        }
        assert_eq!(metrics.define(MetricType::Gauge, b"n"), Err(Status::InternalFailure));
    }

    #[test]
    fn two_threads_share_every_metric() {
        let metrics = Metrics::new();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for round in 0..1000u32 {
                        let name = (round % 300).to_le_bytes();
                        let counter = metrics.define(MetricType::Counter, &name).unwrap();
                        metrics.increment(counter, 1).unwrap();
                        let histogram = metrics.define(MetricType::Histogram, b"h").unwrap();
                        metrics.record(histogram, u64::from(round)).unwrap();
                    }
                });
            }
        });
        let (mut counters, mut total) = (0, 0);
        metrics.visit(&mut |sample| match sample.kind {
            MetricType::Counter => (counters, total) = (counters + 1, total + sample.value),
            _ => assert_eq!((sample.value, sample.sum), (2000, 999_000)),
        });
        assert_eq!((counters, total), (300, 2000));
    }
}
