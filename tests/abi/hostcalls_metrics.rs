// SPDX-License-Identifier: Apache-2.0
//! Metrics: `proxy_define_metric`, `proxy_increment_metric`, `proxy_record_metric`, `proxy_get_metric`.

use crate::support::*;
use proxywasm::abi::{MetricType, Status};
use proxywasm::*;
use std::cell::RefCell;
use std::rc::Rc;

const COUNTER: &str = "define_metric 0 'm' 28 ; @28%4 => 0 0\n";
const GAUGE: &str = "define_metric 1 'm' 28 ; @28%4 => 0 1\n";
const HISTOGRAM: &str = "define_metric 2 'm' 28 ; @28%4 => 0 2\n";

#[test]
fn the_type_of_a_metric_is_in_the_low_bits_of_its_id_which_is_never_0() {
    let setup = in_configure(&format!("{COUNTER}{GAUGE}{HISTOGRAM}"));
    drop(setup);
    let wasm = guest(
        r#"(data (i32.const 1024) "m")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $proxy_define_metric (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 16)))
          (call $number (i32.const 1024) (i32.const 1) (i64.extend_i32_u (i32.eqz (i32.load (i32.const 16)))))
          (i32.const 1))"#,
    );
    assert_eq!(Setup::new(&wasm).mock.take_log(), ["m=0"]);
}

#[test]
fn defining_an_unknown_type_is_a_bad_argument() {
    in_configure("define_metric 3 'm' 24 ; @24 => 2 7\n define_metric -1 'm' 24 => 2");
}

#[test]
fn defining_a_metric_again_leads_to_the_same_metric() {
    in_configure(
        "define_metric 0 'm' 28
         increment_metric @28 3
         define_metric 0 'm' 32
         get_metric @32 16 ; @16L => 0 3"
            .replace("@28 3", "@28 3L")
            .as_str(),
    );
}

#[test]
fn one_name_may_be_of_every_type() {
    in_configure(
        "define_metric 0 'm' 28
         define_metric 1 'm' 32
         increment_metric @28 3L
         get_metric @32 16 ; @16L => 0 0",
    );
}

#[test]
fn a_counter_grows_by_increments_above_0_only() {
    in_configure(&format!(
        "{COUNTER}get_metric @28 16 ; @16L => 0 0
         increment_metric @28 5L
         increment_metric @28 0L => 2
         increment_metric @28 -1L => 2
         get_metric @28 16 ; @16L => 0 5"
    ));
}

#[test]
fn recording_on_a_counter_adds() {
    in_configure(&format!("{COUNTER}record_metric @28 5L\n record_metric @28 2L\n get_metric @28 16 ; @16L => 0 7"));
}

#[test]
fn a_gauge_goes_up_and_down_and_recording_sets_it() {
    in_configure(&format!(
        "{GAUGE}increment_metric @28 5L
         increment_metric @28 -2L
         get_metric @28 16 ; @16L => 0 3
         increment_metric @28 0L
         record_metric @28 100L
         get_metric @28 16 ; @16L => 0 100
         record_metric @28 0L
         increment_metric @28 -1L
         get_metric @28 16 ; @16L => 0 18446744073709551615"
    ));
}

#[test]
fn a_histogram_can_be_recorded_and_neither_incremented_nor_read() {
    let setup = in_configure(&format!(
        "{HISTOGRAM}record_metric @28 5L
         record_metric @28 7L
         increment_metric @28 1L => 2
         get_metric @28 16 ; @16 @20 => 2 7 7"
    ));
    let mut seen = Vec::new();
    setup
        .engine
        .metrics()
        .visit(&mut |sample| seen.push((sample.kind, sample.name.to_vec(), sample.value, sample.sum)));
    assert_eq!(seen, [(MetricType::Histogram, b"m".to_vec(), 2, 12)]);
}

#[test]
fn values_are_64_bits_wide() {
    in_configure(&format!(
        "{COUNTER}increment_metric @28 9223372036854775807L
         record_metric @28 1L
         get_metric @28 16 ; @16L => 0 9223372036854775808"
    ));
}

#[test]
fn an_unknown_metric_is_not_found() {
    // The first two of each type; the second has not been defined.
    in_configure(
        "increment_metric 4 1L => 1\n record_metric 4 1L => 1\n get_metric 4 16 ; @16 => 1 7
         increment_metric 5 1L => 1\n record_metric 5 1L => 1\n get_metric 5 16 => 1
         record_metric 6 1L => 1\n record_metric 0 1L => 1\n record_metric -1 1L => 1
         define_metric 0 'm' 28
         record_metric 400000 1L => 1",
    );
}

#[test]
fn an_id_under_another_type_is_not_the_metric() {
    let setup = in_configure("define_metric 0 'm' 28 ; @28 => 0 4\n record_metric 5 1L => 1\n get_metric 5 16 => 1");
    drop(setup);
}

#[test]
fn a_name_may_be_any_bytes_up_to_4096() {
    in_configure(
        "define_metric 0 '' 28
         define_metric 0 'a\\0\\xff' 28
         define_metric 0 65536 4096 28
         define_metric 0 65536 4097 28 => 10",
    );
}

#[test]
fn a_pointer_outside_memory_is_an_invalid_memory_access() {
    in_configure(
        "define_metric 0 -8 4 28 => 6
         define_metric 0 1024 -1 28 => 6
         define_metric 0 'm' -8 => 6
         define_metric 0 'm' 262141 => 6
         define_metric 0 'm' 28
         get_metric @28 -8 => 6
         get_metric @28 262137 => 6",
    );
}

#[test]
fn metrics_are_shared_by_all_workers_of_an_engine_and_outlive_them() {
    let engine = Engine::new(&EngineConfig::new()).unwrap();
    let first = script(&[("configure", "define_metric 0 'm' 28\n increment_metric @28 2L")]);
    let second =
        script(&[("configure", "define_metric 0 'm' 28\n increment_metric @28 3L\n get_metric @28 16 ; @16L => 0 5")]);
    for script in [&first, &second] {
        let setup = Setup::on_engine(&engine, &Mock::default(), &[(&script.wasm, config())]).unwrap();
        script.check_start(&setup.mock);
    }
    let mut text = String::new();
    engine.metrics().render_prometheus(&mut text);
    assert!(text.contains("m 5"), "{text}");
}

/// A host with metrics of its own.
struct MetricsHost(Mock, Rc<RefCell<Vec<String>>>);

impl Host for MetricsHost {
    fn log(&self, stream: Option<StreamData>, record: &LogRecord<'_>) {
        MockHost(self.0.clone()).log(stream, record);
    }
    fn metrics(&self) -> Option<&dyn HostMetrics> {
        Some(self)
    }
}

impl HostMetrics for MetricsHost {
    fn define(&self, kind: MetricType, name: &[u8]) -> HostResult<u32> {
        self.1.borrow_mut().push(format!("define {kind:?} {}", String::from_utf8_lossy(name)));
        Ok(99)
    }
    fn increment(&self, id: u32, delta: i64) -> HostResult {
        self.1.borrow_mut().push(format!("increment {id} {delta}"));
        Err(Status::BadArgument)
    }
    fn record(&self, id: u32, value: u64) -> HostResult {
        self.1.borrow_mut().push(format!("record {id} {value}"));
        Err(Status::NotFound)
    }
    fn get(&self, id: u32) -> HostResult<u64> {
        self.1.borrow_mut().push(format!("get {id}"));
        Ok(1 << 40)
    }
}

#[test]
fn a_host_with_its_own_metrics_is_asked() {
    let script = script(&[(
        "configure",
        "define_metric 2 'm' 28 ; @28 => 0 99
         increment_metric 99 -7L => 2
         record_metric 99 -1L => 1
         get_metric 99 16 ; @16L => 0 1099511627776",
    )]);
    let engine = Engine::new(&EngineConfig::new()).unwrap();
    let (mock, asked) = (Mock::default(), Rc::default());
    let worker = Worker::new(&engine, Box::new(MetricsHost(mock.clone(), Rc::clone(&asked)))).unwrap();
    let module = Module::compile(&engine, &script.wasm).unwrap();
    let _instance = worker.add_plugin(&Plugin::new(&module, config()).unwrap()).unwrap();
    script.check_start(&mock);
    let expected = ["define Histogram m", "increment 99 -7", "record 99 18446744073709551615", "get 99"];
    assert_eq!(*asked.borrow(), expected);
}
