// SPDX-License-Identifier: Apache-2.0
//! Header maps.
//!
//! | hostcall | tests |
//! |---|---|
//! | `proxy_get_header_map_value` | `reading_*`, `names_*`, `abi_0_1_0_*` |
//! | `proxy_get_header_map_pairs` | `the_pairs_*`, `a_map_that_is_not_there_*` |
//! | `proxy_get_header_map_size` | `the_size_*` |
//! | `proxy_add_`, `replace_`, `remove_header_map_value`, `proxy_set_header_map_pairs` | `adding_*`, `replacing_*`, `removing_*`, `setting_*` |
//! | all | `map_numbers_*`, `a_pointer_*`, `maps_come_*`, `while_logging_*`, `what_the_host_answers_*` |

use crate::support::*;
use proxywasm::abi::{MapType, Status};
use proxywasm::*;

/// A request with a repeated and an empty header.
fn request(mock: &Mock) {
    mock.set_map(
        MapType::RequestHeaders,
        &[(":path", "/"), ("host", "a.example"), ("x", "1"), ("x", "2"), ("empty", "")],
    );
}

/// Every map of a stream.
fn all_maps(mock: &Mock) {
    request(mock);
    mock.set_map(MapType::RequestTrailers, &[("rt", "1")]);
    mock.set_map(MapType::ResponseHeaders, &[(":status", "200"), ("server", "s")]);
    mock.set_map(MapType::ResponseTrailers, &[("st", "2")]);
}

fn names_of(setup: &Setup, map: MapType) -> Vec<String> {
    setup.mock.map(map).into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[test]
fn reading_a_header_gives_its_first_value() {
    in_request(
        request,
        "get_header_map_value 0 'host' out ; text => 0 [a.example]\n get_header_map_value 0 'x' out ; text => 0 [1]",
    );
}

#[test]
fn reading_a_header_that_is_not_there_is_not_found_and_writes_nothing() {
    in_request(request, "get_header_map_value 0 'nothing' out ; @16 @20 => 1 7 7");
}

#[test]
fn reading_an_empty_header_is_ok_with_null_and_size_0_and_allocates_nothing() {
    let wasm = guest(
        r#"(data (i32.const 1024) "empty" "heap")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (local $heap i32)
          (local.set $heap (global.get $heap))
          (i64.store (i32.const 16) (i64.const -1))
          (call $status (call $proxy_get_header_map_value
            (i32.const 0) (i32.const 1024) (i32.const 5) (i32.const 16) (i32.const 20)))
          (call $number (i32.const 1024) (i32.const 5) (i64.load (i32.const 16)))
          (call $number (i32.const 1029) (i32.const 4) (i64.extend_i32_u (i32.sub (global.get $heap) (local.get $heap))))
          (i32.const 0))"#,
    );
    let setup = Setup::new(&wasm);
    request(&setup.mock);
    assert_eq!(setup.request_log(), ["status=0", "empty=0", "heap=0"]);
}

#[test]
fn names_are_lowered_on_every_way_in() {
    let setup = in_request(
        request,
        "get_header_map_value 0 'HoSt' out ; text => 0 [a.example]
         add_header_map_value 0 'X-Added' 'Value'
         replace_header_map_value 0 'X' '3'
         remove_header_map_value 0 'EMPTY'",
    );
    assert_eq!(names_of(&setup, MapType::RequestHeaders), [":path=/", "host=a.example", "x-added=Value", "x=3"]);
}

#[test]
fn abi_0_1_0_reads_a_missing_header_as_ok_and_empty() {
    let script = script_of(
        "0_1_0",
        &[],
        &[
            ("request_headers", "get_header_map_value 0 'nothing' out ; @16 @20 => 0 0 0"),
            ("log", "get_header_map_value 2 'nothing' out ; @16 @20 => 0 0 0"),
        ],
    );
    let setup = script.setup();
    request(&setup.mock);
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 5, true).unwrap();
    stream.log().unwrap();
    script.check(&setup.mock, &["request_headers", "log"]);
}

#[test]
fn abi_0_2_0_reads_a_missing_header_as_not_found() {
    let script = script_of("0_2_0", &[], &[("request_headers", "get_header_map_value 0 'nothing' out => 1")]);
    let setup = script.setup();
    request(&setup.mock);
    setup.http(1).on_headers(Direction::Request, 5, true).unwrap();
    script.check(&setup.mock, &["request_headers"]);
}

#[test]
fn reading_while_logging_a_map_that_never_came_is_not_found() {
    let script = script(&[("log", "get_header_map_value 2 ':status' out => 1\n get_header_map_value 1 'x' out => 1")]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    stream.log().unwrap();
    script.check(&setup.mock, &["log"]);
}

#[test]
fn the_pairs_of_a_map_come_in_order_with_repeated_names() {
    in_request(request, "get_header_map_pairs 0 out ; text => 0 {:path=/|host=a.example|x=1|x=2|empty=}");
}

#[test]
fn the_pairs_are_serialized_as_count_lengths_and_bytes_with_nuls() {
    let wire =
        "\\x02\\0\\0\\0 \\x01\\0\\0\\0 \\x02\\0\\0\\0 \\x01\\0\\0\\0 \\0\\0\\0\\0 a\\0 bc\\0 d\\0 \\0".replace(' ', "");
    in_request(
        |mock| mock.set_map(MapType::RequestHeaders, &[("a", "bc"), ("d", "")]),
        &format!("get_header_map_pairs 0 out ; text => 0 [{wire}]"),
    );
}

#[test]
fn an_empty_map_has_no_pairs_and_no_bytes() {
    in_request(|mock| mock.set_map(MapType::RequestHeaders, &[]), "get_header_map_pairs 0 out ; @16 @20 => 0 0 0");
}

#[test]
fn a_map_that_is_not_there_reads_as_no_pairs_and_is_a_bad_argument_to_everything_else() {
    let lines: String = [1, 2, 3, 4, 5, 6, 7]
        .map(|map| {
            format!(
                "get_header_map_pairs {map} out ; @16 @20 => 0 0 0
                 get_header_map_value {map} 'x' out => 2
                 get_header_map_size {map} 16 => 2
                 set_header_map_pairs {map} {{x=y}} => 2
                 add_header_map_value {map} 'x' 'y' => 2
                 replace_header_map_value {map} 'x' 'y' => 2
                 remove_header_map_value {map} 'x' => 2\n"
            )
        })
        .concat();
    in_request(all_maps, &lines);
    // A root context has no stream, hence no map of one; neither has a TCP connection.
    let all =
        format!("{lines}{}", lines.lines().take(7).map(|line| line.replace(" 1 ", " 0 ") + "\n").collect::<String>());
    in_configure(&all);
    let script = script(&[("new_connection", &all)]);
    let setup = script.setup();
    all_maps(&setup.mock);
    setup.tcp(1).on_new_connection().unwrap();
    script.check(&setup.mock, &["new_connection"]);
}

#[test]
fn the_size_of_a_map_is_that_of_its_names_and_values_in_bytes() {
    in_request(
        |mock| mock.set_map(MapType::RequestHeaders, &[("ab", "cde"), ("f", "")]),
        "get_header_map_size 0 16 ; @16 => 0 6",
    );
    in_request(|mock| mock.set_map(MapType::RequestHeaders, &[]), "get_header_map_size 0 16 ; @16 => 0 0");
}

#[test]
fn adding_appends_a_value() {
    let setup = in_request(request, "add_header_map_value 0 'x' '3'\n add_header_map_value 0 'nothing' ''");
    let headers = names_of(&setup, MapType::RequestHeaders);
    assert_eq!(headers[2..], ["x=1", "x=2", "empty=", "x=3", "nothing="]);
}

#[test]
fn replacing_leaves_one_value_and_makes_what_is_missing() {
    let setup = in_request(request, "replace_header_map_value 0 'x' '9'\n replace_header_map_value 0 'new' 'v'");
    let headers = names_of(&setup, MapType::RequestHeaders);
    assert_eq!(headers, [":path=/", "host=a.example", "empty=", "x=9", "new=v"]);
}

#[test]
fn removing_takes_all_values_and_a_missing_name_is_ok() {
    let setup = in_request(request, "remove_header_map_value 0 'x'\n remove_header_map_value 0 'nothing'");
    assert_eq!(names_of(&setup, MapType::RequestHeaders), [":path=/", "host=a.example", "empty="]);
    in_request(
        |mock| {
            request(mock);
            mock.answer("remove_header", Status::NotFound);
        },
        "remove_header_map_value 0 'nothing'",
    );
}

#[test]
fn setting_the_pairs_replaces_the_whole_map() {
    let setup = in_request(request, "set_header_map_pairs 0 {:path=/new|Upper=Case|x=1|x=2|e=}");
    assert_eq!(names_of(&setup, MapType::RequestHeaders), [":path=/new", "upper=Case", "x=1", "x=2", "e="]);
}

#[test]
fn setting_the_pairs_takes_every_form_of_the_empty_map() {
    for empty in ["''", "'\\0'", "'\\0\\0\\0\\0'", "0 0", "-8 0"] {
        let setup = in_request(request, &format!("set_header_map_pairs 0 {empty}"));
        assert!(setup.mock.map(MapType::RequestHeaders).is_empty(), "{empty}");
    }
}

#[test]
fn setting_malformed_pairs_is_a_bad_argument_and_changes_nothing() {
    let malformed = [
        "'\\x01'",
        "'\\0\\0'",
        "'\\x01\\0\\0\\0'",
        // A value without its NUL, one byte too many, one of the NULs another byte, lengths beyond the end.
        "'\\x01\\0\\0\\0\\x01\\0\\0\\0\\x01\\0\\0\\0a\\0b'",
        "'\\x01\\0\\0\\0\\x01\\0\\0\\0\\x01\\0\\0\\0a\\0b\\0\\0'",
        "'\\x01\\0\\0\\0\\x01\\0\\0\\0\\x01\\0\\0\\0a!b\\0'",
        "'\\x01\\0\\0\\0\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xffa\\0b\\0'",
        "'\\xff\\xff\\xff\\xff'",
    ];
    for pairs in malformed {
        let setup = in_request(request, &format!("set_header_map_pairs 0 {pairs} => 2"));
        assert_eq!(setup.mock.map(MapType::RequestHeaders).len(), 5, "{pairs}");
    }
}

#[test]
fn setting_more_than_1024_pairs_or_1_mib_is_a_bad_argument() {
    // Pairs of nothing are a count, lengths of zero and NULs.
    let wasm = guest(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (memory.grow (i32.const 32)))
          (i32.store (i32.const 100000) (i32.const 1024))
          (call $status (call $proxy_set_header_map_pairs (i32.const 0) (i32.const 100000) (i32.const 10244)))
          (i32.store (i32.const 131072) (i32.const 1025))
          (call $status (call $proxy_set_header_map_pairs (i32.const 0) (i32.const 131072) (i32.const 10254)))
          ;; One pair whose value makes it 1 MiB, then one byte more.
          (i32.store (i32.const 262144) (i32.const 1))
          (i32.store (i32.const 262152) (i32.const 1048562))
          (call $status (call $proxy_set_header_map_pairs (i32.const 0) (i32.const 262144) (i32.const 1048576)))
          (i32.store (i32.const 262152) (i32.const 1048563))
          (call $status (call $proxy_set_header_map_pairs (i32.const 0) (i32.const 262144) (i32.const 1048577)))
          (i32.const 0))"#,
    );
    let setup = Setup::new(&wasm);
    request(&setup.mock);
    assert_eq!(setup.request_log(), ["status=0", "status=2", "status=0", "status=2"]);
}

#[test]
fn map_numbers_beyond_7_are_a_bad_argument() {
    for map in [8, -1] {
        let lines = format!(
            "get_header_map_pairs {map} out => 2
             get_header_map_value {map} 'x' out => 2
             get_header_map_size {map} 16 => 2
             set_header_map_pairs {map} {{x=y}} => 2
             add_header_map_value {map} 'x' 'y' => 2
             replace_header_map_value {map} 'x' 'y' => 2
             remove_header_map_value {map} 'x' => 2"
        );
        in_request(request, &lines);
    }
}

#[test]
fn a_pointer_outside_memory_is_an_invalid_memory_access() {
    let setup = in_request(
        request,
        "get_header_map_value 0 -8 4 out => 6
         get_header_map_value 0 262140 5 out => 6
         get_header_map_value 0 1024 -1 out => 6
         get_header_map_value 0 'host' -8 20 => 6
         get_header_map_value 0 'host' 16 -8 => 6
         get_header_map_value 0 'host' 262141 20 => 6
         get_header_map_value 0 'host' 16 262141 => 6
         get_header_map_pairs 0 -8 20 => 6
         get_header_map_pairs 0 16 -8 => 6
         get_header_map_size 0 -8 => 6
         set_header_map_pairs 0 -8 20 => 6
         set_header_map_pairs 0 1024 -1 => 6
         add_header_map_value 0 -8 4 'y' => 6
         add_header_map_value 0 'x' -8 4 => 6
         add_header_map_value 0 'x' 262143 2 => 6
         replace_header_map_value 0 -8 4 'y' => 6
         replace_header_map_value 0 'x' -8 4 => 6
         remove_header_map_value 0 -8 4 => 6",
    );
    assert_eq!(setup.mock.map(MapType::RequestHeaders).len(), 5, "nothing was changed");
}

#[test]
fn results_may_be_written_to_the_last_word_of_memory() {
    in_request(
        request,
        "get_header_map_size 0 262140 ; @262140 => 0 28\n get_header_map_value 0 'x' 262136 262140 ; @262140 => 0 1",
    );
}

#[test]
fn a_guest_that_cannot_allocate_gets_an_invalid_memory_access() {
    let wasm = r#"(module
      (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
      (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 64) "host")
      (func (export "proxy_abi_version_0_2_1"))
      (func (export "malloc") (param i32) (result i32) (i32.const PLACE))
      (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (i32.store8 (i32.const 0) (i32.add (i32.const 48)
          (call $get (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 16) (i32.const 20))))
        (drop (call $log (i32.const 2) (i32.const 0) (i32.const 1)))
        (i32.const 0)))"#;
    for place in ["0", "65530", "-8"] {
        let setup = Setup::new(&wat::parse_str(wasm.replace("PLACE", place)).unwrap());
        request(&setup.mock);
        assert_eq!(setup.request_log(), ["6"], "allocated at {place}");
    }
}

#[test]
fn maps_come_with_their_phases_and_stay() {
    /// The sizes of the four maps of the stream; none is a bad argument.
    fn sizes(there: [bool; 4]) -> String {
        let line =
            |(map, there): (usize, bool)| format!("get_header_map_size {map} 16 => {}\n", if there { 0 } else { 2 });
        there.into_iter().enumerate().map(line).collect()
    }
    let phases = [
        ("request_headers", sizes([true, false, false, false])),
        ("request_body", sizes([true, false, false, false])),
        ("request_trailers", sizes([true, true, false, false])),
        ("response_headers", sizes([true, true, true, false])),
        ("response_body", sizes([true, true, true, false])),
        ("response_trailers", sizes([true, true, true, true])),
        ("log", sizes([true, true, true, true])),
    ];
    let phases = phases.each_ref().map(|(name, lines)| (*name, &**lines));
    let script = script(&phases);
    let setup = script.setup();
    all_maps(&setup.mock);
    run_exchange(&setup);
    script.check(&setup.mock, &phases.map(|(name, _)| name));
}

#[test]
fn every_map_of_a_stream_can_be_changed_in_its_phase() {
    let script = script(&[
        ("request_headers", "add_header_map_value 0 'a' '0'"),
        ("request_trailers", "add_header_map_value 1 'a' '1'"),
        ("response_headers", "add_header_map_value 2 'a' '2'"),
        ("response_trailers", "add_header_map_value 3 'a' '3'"),
    ]);
    let setup = script.setup();
    all_maps(&setup.mock);
    run_exchange(&setup);
    script.check(&setup.mock, &["request_headers", "request_trailers", "response_headers", "response_trailers"]);
    let maps = [MapType::RequestHeaders, MapType::RequestTrailers, MapType::ResponseHeaders, MapType::ResponseTrailers];
    for (number, map) in maps.into_iter().enumerate() {
        assert_eq!(names_of(&setup, map).last().unwrap(), &format!("a={number}"));
    }
}

#[test]
fn trailers_can_be_made_while_the_last_chunk_of_the_body_is_shown_and_not_before() {
    let script = script(&[
        ("request_headers", "add_header_map_value 1 'made' 'early' => 2"),
        (
            "request_body",
            "say $2 => 1\n add_header_map_value 1 'made' 'here'\n get_header_map_value 1 'made' out ; text => 0 [here]",
        ),
        ("response_body", "say $2 => 0\n add_header_map_value 3 'made' 'early' => 2"),
    ]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, false).unwrap();
    let outcome = stream.on_body(Direction::Request, &chunk("all"), true).unwrap();
    assert!(outcome.trailers && outcome.end_of_stream, "{outcome:?}");
    stream.on_headers(Direction::Response, 1, false).unwrap();
    stream.on_body(Direction::Response, &chunk("part"), false).unwrap();
    script.check(&setup.mock, &["request_headers", "request_body", "response_body"]);
    assert_eq!(names_of(&setup, MapType::RequestTrailers), ["made=here"]);
}

#[test]
fn while_logging_maps_are_read_only() {
    let writes = |map: u32| {
        format!(
            "get_header_map_value {map} 'x' out => {}
             set_header_map_pairs {map} {{x=y}} => 2
             add_header_map_value {map} 'x' 'y' => 2
             replace_header_map_value {map} 'x' 'y' => 2
             remove_header_map_value {map} 'x' => 2\n",
            u32::from(map != 0)
        )
    };
    let script = script(&[("log", &[0, 1, 2, 3].map(writes).concat())]);
    let setup = script.setup();
    all_maps(&setup.mock);
    run_exchange(&setup);
    script.check(&setup.mock, &["log"]);
    assert_eq!(setup.mock.map(MapType::RequestHeaders).len(), 5);
}

#[test]
fn while_logging_the_pairs_can_be_read() {
    let script = script(&[("log", "get_header_map_pairs 2 out ; text => 0 {:status=200|server=s}")]);
    let setup = script.setup();
    all_maps(&setup.mock);
    run_exchange(&setup);
    script.check(&setup.mock, &["log"]);
}

#[test]
fn what_the_host_answers_reaches_the_guest() {
    let methods = [
        ("get_header", "get_header_map_value 0 'x' out"),
        ("get_headers", "get_header_map_pairs 0 out"),
        ("get_headers", "get_header_map_size 0 16"),
        ("add_header", "add_header_map_value 0 'x' 'y'"),
        ("replace_header", "replace_header_map_value 0 'x' 'y'"),
        ("remove_header", "remove_header_map_value 0 'x'"),
        ("set_headers", "set_header_map_pairs 0 {x=y}"),
    ];
    for (method, line) in methods {
        for status in [Status::Unimplemented, Status::InternalFailure] {
            let prepare = |mock: &Mock| {
                request(mock);
                mock.answer(method, status);
            };
            in_request(prepare, &format!("{line} => {}", status as i32));
        }
    }
}

#[test]
fn a_map_that_the_host_does_not_have_reads_as_no_pairs() {
    let prepare = |mock: &Mock| {
        request(mock);
        mock.answer("get_headers", Status::BadArgument);
    };
    in_request(prepare, "get_header_map_pairs 0 out ; @16 @20 => 0 0 0\n get_header_map_size 0 16 => 2");
}

#[test]
fn a_map_that_the_host_does_not_let_be_changed_is_a_bad_argument() {
    let prepare = |mock: &Mock| {
        request(mock);
        mock.answer("add_header", Status::BadArgument);
    };
    in_request(prepare, "add_header_map_value 0 'x' 'y' => 2");
}

#[test]
fn a_later_callback_is_told_the_new_number_of_headers() {
    let adder = script(&[("request_headers", "say $1 => 5\n add_header_map_value 0 'y' '1'")]);
    let reader = guest(
        r#"(data (i32.const 1024) "n")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $number (i32.const 1024) (i32.const 1) (i64.extend_i32_u (local.get 1))) (i32.const 0))"#,
    );
    let setup = Setup::chain(&[(&adder.wasm, config()), (&reader, config())]);
    request(&setup.mock);
    setup.http(1).on_headers(Direction::Request, 5, true).unwrap();
    assert_eq!(setup.mock.take_log(), ["5", "0", "n=6"]);
}
