// SPDX-License-Identifier: Apache-2.0
//! Properties.
//!
//! | hostcall | tests |
//! |---|---|
//! | `proxy_get_property` | `reading_*`, `the_plugin_*`, `a_path_*` |
//! | `proxy_set_property` | `setting_*`, `a_property_that_was_set_*` |
//! | both | `what_the_host_answers_*`, `a_pointer_*` |

use crate::support::*;
use proxywasm::abi::Status;
use proxywasm::*;

fn property(mock: &Mock, path: &str, value: &[u8]) {
    mock.0.borrow_mut().properties.insert(path.as_bytes().to_vec(), value.to_vec());
}

#[test]
fn reading_a_property_gives_the_bytes_of_the_host() {
    let prepare = |mock: &Mock| {
        property(mock, "request\0path", b"/a");
        property(mock, "request\0size", &300u64.to_le_bytes());
        property(mock, "connection\0mtls", &[0]);
    };
    in_request(
        prepare,
        "get_property 'request\\0path' out ; text => 0 [/a]
         get_property 'request\\0size' out ; text => 0 [\\x2c\\x01\\0\\0\\0\\0\\0\\0]
         get_property 'connection\\0mtls' out ; text => 0 [\\0]",
    );
}

#[test]
fn reading_an_empty_property_is_ok_null_and_0() {
    in_request(|mock| property(mock, "empty", b""), "get_property 'empty' out ; @16 @20 => 0 0 0");
}

#[test]
fn reading_an_unknown_property_is_not_found() {
    let lines = "get_property 'nothing' out ; @16 @20 => 1 7 7\n get_property 'request\\0nothing' out => 1";
    in_request(|_| {}, lines);
    in_configure(lines);
}

#[test]
fn reading_an_empty_path_is_a_serialization_failure() {
    in_request(|mock| property(mock, "", b"x"), "get_property '' out => 3\n get_property '\\0' out => 3");
}

#[test]
fn reading_a_property_needs_no_stream() {
    let mock = Mock::default();
    property(&mock, "node\0id", b"here");
    let script = script(&[("vm_start", "get_property 'node\\0id' out ; text => 0 [here]")]);
    let engine = Engine::new(&EngineConfig::new()).unwrap();
    let _setup = Setup::on_engine(&engine, &mock, &[(&script.wasm, config())]).unwrap();
    script.check_start(&mock);
}

#[test]
fn a_path_may_end_with_a_nul() {
    in_request(
        |mock| {
            property(mock, "request\0path", b"/a");
            property(mock, "plain", b"b");
        },
        "get_property 'request\\0path\\0' out ; text => 0 [/a]
         get_property 'plain\\0' out ; text => 0 [b]
         get_property 'plugin_name\\0' out ; text => 0 [test]
         get_property 'plain\\0\\0' out => 1",
    );
}

#[test]
fn a_path_with_dots_is_one_segment() {
    in_request(|mock| property(mock, "request\0path", b"/a"), "get_property 'request.path' out => 1");
}

#[test]
fn the_plugin_knows_its_name_root_id_and_vm_id_in_every_callback() {
    let lines = "get_property 'plugin_name' out ; text => 0 [name]
                 get_property 'plugin_root_id' out ; text => 0 [root]
                 get_property 'plugin_vm_id' out ; text => 0 [vm]";
    let names = ["context_create", "vm_start", "configure", "request_headers", "log"];
    let script = script(&names.map(|name| (name, lines)));
    let config = config_with(|config| {
        config.name = "name".into();
        config.root_id = "root".into();
        config.vm_id = "vm".into();
    });
    let setup = Setup::with(&script.wasm, config);
    script.check_start(&setup.mock);
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    stream.log().unwrap();
    script.check(&setup.mock, &["context_create", "request_headers", "log"]);
}

#[test]
fn the_plugin_gets_an_empty_root_id_as_ok() {
    let lines =
        "get_property 'plugin_root_id' out ; @16 @20 => 0 0 0\n get_property 'plugin_vm_id' out ; @16 @20 => 0 0 0";
    script(&[("context_create", lines)]).setup();
}

#[test]
fn a_property_that_was_set_can_be_read_until_the_stream_ends_by_any_plugin_of_it() {
    let setter = script(&[
        (
            "request_headers",
            "set_property 'mine' 'value'
             set_property 'a\\0b\\0' 'nested'
             get_property 'mine' out ; text => 0 [value]
             get_property 'mine\\0' out ; text => 0 [value]
             get_property 'a\\0b' out ; text => 0 [nested]
             set_property 'mine' 'changed'
             set_property 'empty' ''
             get_property 'empty' out ; @16 @20 => 0 0 0",
        ),
        ("log", "get_property 'mine' out ; text => 0 [changed]"),
    ]);
    let reader = script(&[("request_headers", "get_property 'mine' out ; text => 0 [changed]")]);
    let setup = Setup::chain(&[(&setter.wasm, config()), (&reader.wasm, config())]);
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    let log: Vec<String> = setup.mock.take_log();
    assert_eq!(log.last().unwrap(), "0 [changed]", "{log:?}");
    assert_eq!(log.len(), 9);
    stream.log().unwrap();
    setter.check(&setup.mock, &["log"]);
}

#[test]
fn a_property_that_was_set_belongs_to_its_stream() {
    let script = script(&[
        ("request_headers", "set_property 'mine' 'value'"),
        (
            "foreign_function",
            "get_property 'mine' out => 1\n set_effective_context 2\n get_property 'mine' out ; text => 0 [value]",
        ),
        ("log", "get_property 'mine' out => 1"),
    ]);
    let setup = script.setup();
    let first = setup.http(1);
    first.on_headers(Direction::Request, 1, true).unwrap();
    script.check(&setup.mock, &["request_headers"]);
    setup.instances[0].call_foreign(0, b"").unwrap();
    script.check(&setup.mock, &["foreign_function"]);
    setup.http(2).log().unwrap();
    script.check(&setup.mock, &["log"]);
}

#[test]
fn setting_a_property_of_the_host_or_the_plugin_does_not_change_it() {
    in_request(
        |mock| property(mock, "request\0path", b"/a"),
        "set_property 'request\\0path' '/b'
         get_property 'request\\0path' out ; text => 0 [/a]
         set_property 'plugin_name' 'other'
         get_property 'plugin_name' out ; text => 0 [test]",
    );
}

#[test]
fn setting_a_property_without_a_stream_is_not_found() {
    let setup = in_configure("set_property 'mine' 'value' => 1");
    assert_eq!(setup.mock.take_events(), []);
}

#[test]
fn setting_a_property_that_the_host_takes_is_the_hosts() {
    let setup = in_request(
        |mock| mock.answer("set_property", Status::Ok),
        "set_property 'a\\0b' 'value'\n get_property 'a\\0b' out => 1",
    );
    let expected = Event::SetProperty { path: b"a\0b".to_vec(), value: b"value".to_vec() };
    assert_eq!(setup.mock.take_events(), [expected]);
}

#[test]
fn setting_more_than_1024_properties_is_an_internal_failure() {
    let wasm = guest(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (loop $again
            (i32.store (i32.const 1024) (i32.add (i32.load (i32.const 1024)) (i32.const 1)))
            (br_if $again (i32.eqz (call $proxy_set_property (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0)))))
          (call $status (i32.load (i32.const 1024)))
          (call $status (call $proxy_set_property (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0)))
          (i32.store (i32.const 1024) (i32.const 7))
          (call $status (call $proxy_set_property (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0)))
          (i32.const 0))"#,
    );
    // The numbers below 2^24 end with a NUL, which is not part of the path; they differ all the same.
    assert_eq!(Setup::new(&wasm).request_log(), ["status=1025", "status=10", "status=0"]);
}

#[test]
fn what_the_host_answers_reaches_the_guest() {
    for status in [Status::SerializationFailure, Status::InternalFailure, Status::BadArgument] {
        in_request(|mock| mock.answer("get_property", status), &format!("get_property 'x' out => {}", status as i32));
        in_request(|mock| mock.answer("set_property", status), &format!("set_property 'x' 'y' => {}", status as i32));
    }
    // A host without attributes leaves the guest with those of the library.
    in_request(
        |mock| mock.answer("get_property", Status::Unimplemented),
        "get_property 'x' out => 1\n set_property 'x' 'y'\n get_property 'x' out ; text => 0 [y]",
    );
}

#[test]
fn what_a_host_left_behind_when_it_failed_is_not_part_of_the_value() {
    struct Untidy(Mock);
    impl Host for Untidy {
        fn log(&self, stream: Option<StreamData>, record: &LogRecord<'_>) {
            MockHost(self.0.clone()).log(stream, record);
        }
        fn get_property(&self, _: Option<StreamData>, _: &[u8], out: &mut Vec<u8>) -> HostResult {
            out.extend_from_slice(b"left");
            Err(Status::NotFound)
        }
    }
    let script = script(&[("request_headers", "set_property 'x' 'y'\n get_property 'x' out ; text => 0 [y]")]);
    let engine = Engine::new(&EngineConfig::new()).unwrap();
    let mock = Mock::default();
    let worker = Worker::new(&engine, Box::new(Untidy(mock.clone()))).unwrap();
    let module = Module::compile(&engine, &script.wasm).unwrap();
    let instance = worker.add_plugin(&Plugin::new(&module, config()).unwrap()).unwrap();
    let chain = worker.chain(&[&instance]).unwrap();
    let stream = worker.stream(&chain, StreamKind::Http, StreamData(1)).unwrap();
    stream.on_headers(Direction::Request, 1, true).unwrap();
    script.check(&mock, &["request_headers"]);
}

#[test]
fn a_pointer_outside_memory_is_an_invalid_memory_access() {
    let setup = in_request(
        |mock| property(mock, "x", b"y"),
        "get_property -8 4 out => 6
         get_property 1024 -1 out => 6
         get_property 'x' -8 20 => 6
         get_property 'x' 16 -8 => 6
         get_property 'x' 16 262141 => 6
         get_property 'plugin_name' -8 20 => 6
         set_property -8 4 'y' => 6
         set_property 'x' -8 4 => 6
         set_property 'x' 1024 -1 => 6",
    );
    assert_eq!(setup.mock.take_events(), []);
}
