// SPDX-License-Identifier: Apache-2.0
//! Buffers.
//!
//! | hostcall | tests |
//! |---|---|
//! | `proxy_get_buffer_bytes` | `reading_*`, `the_configurations_*`, `a_body_*`, `a_chunk_*` |
//! | `proxy_get_buffer_status` | `the_status_*` |
//! | `proxy_set_buffer_bytes` | `writing_*`, `buffers_that_are_not_*` |
//! | all | `buffer_numbers_*`, `a_pointer_*`, `a_buffer_that_is_not_there_*` |

use crate::support::*;
use proxywasm::*;

/// Runs the lines in `proxy_on_request_body` on one chunk and gives what goes on.
fn in_body(body: &str, lines: &str) -> String {
    let script = script(&[("request_body", lines)]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, false).unwrap();
    let outcome = stream.on_body(Direction::Request, &chunk(body), false).unwrap();
    assert!(outcome.failure.is_none(), "{outcome:?}");
    script.check(&setup.mock, &["request_body"]);
    forwarded(&stream, Direction::Request)
}

#[test]
fn reading_a_body_gives_the_part_that_was_asked_for() {
    in_body(
        "abcdef",
        "get_buffer_bytes 0 0 6 out ; text => 0 [abcdef]
         get_buffer_bytes 0 0 2 out ; text => 0 [ab]
         get_buffer_bytes 0 2 3 out ; text => 0 [cde]",
    );
}

#[test]
fn reading_is_cut_off_at_the_end() {
    in_body(
        "abcdef",
        "get_buffer_bytes 0 4 100 out ; text => 0 [ef]
         get_buffer_bytes 0 0 -1 out ; text => 0 [abcdef]
         get_buffer_bytes 0 5 -1 out ; text => 0 [f]",
    );
}

#[test]
fn reading_nothing_or_from_beyond_the_end_is_ok_null_and_0() {
    in_body(
        "abcdef",
        "get_buffer_bytes 0 0 0 out ; @16 @20 => 0 0 0
         get_buffer_bytes 0 6 1 out ; @16 @20 => 0 0 0
         get_buffer_bytes 0 7 1 out ; @16 @20 => 0 0 0
         get_buffer_bytes 0 -1 -1 out ; @16 @20 => 0 0 0",
    );
}

#[test]
fn reading_joins_the_pieces_that_the_host_offers() {
    let script = script(&[(
        "request_body",
        "get_buffer_bytes 0 0 100 out ; text => 0 [one two]
         get_buffer_bytes 0 2 3 out ; text => 0 [e t]",
    )]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, false).unwrap();
    let pieces = ["one", "", " ", "two"].map(|text| Chunk::owned(text.as_bytes()));
    stream.on_body(Direction::Request, &pieces, false).unwrap();
    script.check(&setup.mock, &["request_body"]);
}

#[test]
fn reading_takes_any_bytes() {
    let script = script(&[("request_body", "get_buffer_bytes 0 0 9 out ; text => 0 [\\0a\\x7f]")]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, false).unwrap();
    stream.on_body(Direction::Request, &[Chunk::owned(&b"\0a\x7f"[..])], false).unwrap();
    script.check(&setup.mock, &["request_body"]);
}

#[test]
fn the_status_of_a_buffer_is_its_length_and_no_flags() {
    in_body("abcdef", "get_buffer_status 0 16 20 ; @16 @20 => 0 6 0");
}

#[test]
fn the_status_of_an_empty_body_is_0() {
    let script = script(&[(
        "request_body",
        "get_buffer_status 0 16 20 ; @16 @20 => 0 0 0
         get_buffer_bytes 0 0 9 out ; @16 @20 => 0 0 0",
    )]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, false).unwrap();
    stream.on_body(Direction::Request, &[], true).unwrap();
    script.check(&setup.mock, &["request_body"]);
}

#[test]
fn writing_at_0_with_size_0_prepends() {
    assert_eq!(in_body("abc", "set_buffer_bytes 0 0 0 '>>'\n get_buffer_bytes 0 0 9 out ; text => 0 [>>abc]"), ">>abc");
}

#[test]
fn writing_over_the_whole_body_replaces_it() {
    assert_eq!(in_body("abc", "set_buffer_bytes 0 0 3 'xy'"), "xy");
    assert_eq!(in_body("abc", "set_buffer_bytes 0 0 -1 'longer than it was'"), "longer than it was");
    assert_eq!(in_body("abc", "set_buffer_bytes 0 0 100 ''"), "");
}

#[test]
fn writing_over_the_head_replaces_the_head() {
    assert_eq!(in_body("abc", "set_buffer_bytes 0 0 1 'XX'"), "XXbc");
    assert_eq!(in_body("abc", "set_buffer_bytes 0 0 2 ''"), "c");
}

#[test]
fn writing_at_or_beyond_the_end_appends() {
    assert_eq!(in_body("abc", "set_buffer_bytes 0 3 0 '<'"), "abc<");
    assert_eq!(in_body("abc", "set_buffer_bytes 0 100 7 '<'\n get_buffer_status 0 16 20 ; @16 => 0 4"), "abc<");
}

#[test]
fn writing_inside_is_a_bad_argument_and_changes_nothing() {
    assert_eq!(in_body("abc", "set_buffer_bytes 0 1 1 'x' => 2\n set_buffer_bytes 0 2 0 'x' => 2"), "abc");
}

#[test]
fn writing_to_an_empty_body_makes_one() {
    let script = script(&[("response_body", "set_buffer_bytes 1 0 0 'made'")]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    stream.on_headers(Direction::Response, 1, false).unwrap();
    stream.on_body(Direction::Response, &[], true).unwrap();
    script.check(&setup.mock, &["response_body"]);
    assert_eq!(forwarded(&stream, Direction::Response), "made");
}

#[test]
fn writing_twice_adds_up() {
    assert_eq!(
        in_body("abc", "set_buffer_bytes 0 0 0 '1'\n set_buffer_bytes 0 0 0 '2'\n set_buffer_bytes 0 99 0 '3'"),
        "21abc3"
    );
}

#[test]
fn buffer_numbers_beyond_8_are_a_bad_argument() {
    in_body(
        "abc",
        "get_buffer_bytes 9 0 9 out => 2
         get_buffer_bytes -1 0 9 out => 2
         get_buffer_status 9 16 20 => 2
         set_buffer_bytes 9 0 0 'x' => 2
         set_buffer_bytes -1 0 0 'x' => 2",
    );
}

#[test]
fn a_buffer_that_is_not_there_is_not_found() {
    let lines: String = [1, 2, 3, 4, 5, 8]
        .map(|buffer| {
            format!(
                "get_buffer_bytes {buffer} 0 9 out ; @16 @20 => 1 7 7
                 get_buffer_status {buffer} 16 20 ; @16 @20 => 1 7 7
                 set_buffer_bytes {buffer} 0 0 'x' => 1\n"
            )
        })
        .concat();
    in_body("abc", &lines);
    // Before the body has come, and where there is no stream.
    let none = lines.lines().take(3).map(|line| line.replacen(" 1 ", " 0 ", 1) + "\n").collect::<String>() + &lines;
    in_request(|_| {}, &none);
    in_configure(&none);
}

#[test]
fn buffers_that_are_not_of_a_stream_cannot_be_changed() {
    in_body("abc", "set_buffer_bytes 6 0 0 'x' => 2\n set_buffer_bytes 7 0 0 'x' => 2");
    let script = script(&[(
        "foreign_function",
        "set_buffer_bytes 8 0 0 'x' => 2\n get_buffer_bytes 8 0 9 out ; text => 0 [arg]",
    )]);
    let setup = script.setup();
    setup.instances[0].call_foreign(3, b"arg").unwrap();
    script.check(&setup.mock, &["foreign_function"]);
}

#[test]
fn while_logging_a_body_cannot_be_changed() {
    let script = script(&[
        ("request_body", "return 1"),
        ("log", "set_buffer_bytes 0 0 0 'x' => 2\n set_buffer_bytes 1 0 0 'x' => 2"),
    ]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, false).unwrap();
    stream.on_body(Direction::Request, &chunk("held"), false).unwrap();
    stream.log().unwrap();
    script.check(&setup.mock, &["log"]);
}

#[test]
fn the_argument_of_a_foreign_function_is_buffer_8_during_its_callback_only() {
    let script = script(&[
        ("configure", "get_buffer_bytes 8 0 9 out => 1"),
        ("foreign_function", "say $1 => 42\n say $2 => 3\n get_buffer_bytes 8 0 9 out ; text => 0 [arg]"),
        ("request_headers", "get_buffer_bytes 8 0 9 out => 1"),
    ]);
    let setup = script.setup();
    setup.instances[0].call_foreign(42, b"arg").unwrap();
    script.check(&setup.mock, &["foreign_function"]);
    setup.http(1).on_headers(Direction::Request, 0, true).unwrap();
    script.check(&setup.mock, &["request_headers"]);
}

#[test]
fn the_configurations_are_buffers_6_and_7_everywhere() {
    let lines = "get_buffer_bytes 6 0 100 out ; text => 0 [of the vm]
                 get_buffer_bytes 7 0 100 out ; text => 0 [of the plugin]
                 get_buffer_bytes 7 3 3 out ; text => 0 [the]
                 get_buffer_status 7 16 20 ; @16 @20 => 0 13 0";
    let names = ["context_create", "vm_start", "configure", "tick", "request_headers", "log"];
    let script = script(&names.map(|name| (name, if name == "tick" { "" } else { lines })));
    let config = config_with(|config| {
        config.vm_configuration = b"of the vm".to_vec();
        config.configuration = b"of the plugin".to_vec();
    });
    let setup = Setup::with(&script.wasm, config);
    script.check_start(&setup.mock);
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 0, true).unwrap();
    stream.log().unwrap();
    script.check(&setup.mock, &["context_create", "request_headers", "log"]);
}

#[test]
fn an_empty_configuration_is_ok_null_and_0() {
    in_configure("get_buffer_bytes 6 0 100 out ; @16 @20 => 0 0 0\n get_buffer_bytes 7 0 100 out ; @16 @20 => 0 0 0");
}

#[test]
fn every_direction_has_its_buffer() {
    let http = script(&[
        ("request_body", "get_buffer_bytes 0 0 9 out ; text => 0 [body]\n set_buffer_bytes 0 9 0 '!'"),
        ("response_body", "get_buffer_bytes 1 0 9 out ; text => 0 [body]\n set_buffer_bytes 1 9 0 '?'"),
    ]);
    let setup = http.setup();
    let stream = setup.http(1);
    for (direction, expected) in [(Direction::Request, "body!"), (Direction::Response, "body?")] {
        stream.on_headers(direction, 1, false).unwrap();
        stream.on_body(direction, &chunk("body"), false).unwrap();
        assert_eq!(forwarded(&stream, direction), expected);
    }
    http.check(&setup.mock, &["request_body", "response_body"]);

    let tcp = script(&[
        ("downstream_data", "get_buffer_bytes 2 0 9 out ; text => 0 [up]\n set_buffer_bytes 2 9 0 '!'\n get_buffer_bytes 0 0 9 out => 1"),
        ("upstream_data", "get_buffer_bytes 3 0 9 out ; text => 0 [down]\n set_buffer_bytes 3 9 0 '?'\n get_buffer_bytes 1 0 9 out => 1"),
    ]);
    let setup = tcp.setup();
    let stream = setup.tcp(1);
    stream.on_new_connection().unwrap();
    stream.on_data(Direction::Request, &chunk("up"), false).unwrap();
    assert_eq!(forwarded(&stream, Direction::Request), "up!");
    stream.on_data(Direction::Response, &chunk("down"), false).unwrap();
    assert_eq!(forwarded(&stream, Direction::Response), "down?");
    tcp.check(&setup.mock, &["downstream_data", "upstream_data"]);
}

#[test]
fn a_body_that_went_on_is_not_found() {
    let script = script(&[("request_trailers", "get_buffer_bytes 0 0 9 out => 1\n set_buffer_bytes 0 0 0 'x' => 1")]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, false).unwrap();
    stream.on_body(Direction::Request, &chunk("gone"), false).unwrap();
    stream.on_trailers(Direction::Request, 0).unwrap();
    script.check(&setup.mock, &["request_trailers"]);
}

#[test]
fn a_body_that_is_collected_grows_and_can_be_read_and_changed_in_later_callbacks() {
    let script = script(&[
        ("request_body", "return 1"),
        ("tick", ""),
        ("request_trailers", "get_buffer_bytes 0 0 99 out ; text => 0 [onetwo]\n set_buffer_bytes 0 0 3 '1'"),
    ]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, false).unwrap();
    for text in ["one", "two"] {
        let outcome = stream.on_body(Direction::Request, &chunk(text), false).unwrap();
        assert_eq!(outcome.action, Action::PauseAndBuffer);
        assert_eq!(forwarded(&stream, Direction::Request), "");
    }
    stream.on_trailers(Direction::Request, 0).unwrap();
    script.check(&setup.mock, &["request_trailers"]);
    assert_eq!(forwarded(&stream, Direction::Request), "1two");
}

#[test]
fn a_chunk_is_shown_alone_unless_the_body_is_collected() {
    // The second parameter is the size of what the buffer shows.
    let wasm = |answer: u32| {
        guest(&format!(
            r#"(data (i32.const 1024) "size")
            (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
              (call $number (i32.const 1024) (i32.const 4) (i64.extend_i32_u (local.get 1)))
              (drop (call $proxy_get_buffer_bytes (i32.const 0) (i32.const 0) (i32.const 99) (global.get $out) (global.get $out_len)))
              (call $value)
              (i32.const {answer}))"#
        ))
    };
    for (answer, second) in [(0, ["size=3", "two"]), (1, ["size=6", "onetwo"]), (3, ["size=3", "two"])] {
        let setup = Setup::new(&wasm(answer));
        let stream = setup.http(1);
        stream.on_headers(Direction::Request, 1, false).unwrap();
        for text in ["one", "two"] {
            stream.on_body(Direction::Request, &chunk(text), false).unwrap();
        }
        assert_eq!(setup.mock.take_log(), [["size=3", "one"], second].concat(), "answer {answer}");
    }
}

#[test]
fn a_pointer_outside_memory_is_an_invalid_memory_access() {
    let body = in_body(
        "abc",
        "get_buffer_bytes 0 0 9 -8 20 => 6
         get_buffer_bytes 0 0 9 16 -8 => 6
         get_buffer_bytes 0 0 9 16 262141 => 6
         get_buffer_bytes 0 0 0 -8 20 => 6
         get_buffer_status 0 -8 20 => 6
         get_buffer_status 0 16 -8 => 6
         set_buffer_bytes 0 0 0 -8 4 => 6
         set_buffer_bytes 0 0 0 262140 5 => 6
         set_buffer_bytes 0 0 0 1024 -1 => 6",
    );
    assert_eq!(body, "abc");
}
