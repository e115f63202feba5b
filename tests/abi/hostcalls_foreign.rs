// SPDX-License-Identifier: Apache-2.0
//! Foreign functions: `proxy_call_foreign_function`, answered by the engine's registry or else by the host.

use crate::support::*;
use proxywasm::abi::Status;
use proxywasm::*;
use std::sync::Arc;

fn foreign(mock: &Mock, name: &str, answer: HostResult, result: &str) {
    mock.0.borrow_mut().foreign.insert(name.as_bytes().to_vec(), (answer, result.as_bytes().to_vec()));
}

fn called(name: &str, argument: &[u8]) -> Event {
    Event::Foreign { name: name.into(), argument: argument.to_vec() }
}

#[test]
fn a_function_of_the_host_is_called_with_its_argument_and_gives_its_result() {
    let setup = in_request(
        |mock| foreign(mock, "f", Ok(()), "result"),
        "call_foreign_function 'f' 'ar\\0g' out ; text => 0 [result]",
    );
    assert_eq!(setup.mock.take_events(), [called("f", b"ar\0g")]);
}

#[test]
fn an_unknown_function_is_not_found() {
    let lines = "call_foreign_function 'nothing' 'x' out ; @16 @20 => 1 7 7\n call_foreign_function '' '' out => 1";
    in_request(|_| {}, lines);
    in_configure(lines);
}

#[test]
fn a_function_may_give_nothing_which_is_ok_null_and_0() {
    in_request(|mock| foreign(mock, "f", Ok(()), ""), "call_foreign_function 'f' '' out ; @16 @20 => 0 0 0");
}

#[test]
fn the_status_of_a_function_reaches_the_guest_and_what_it_gave_too() {
    let statuses = [
        Status::BadArgument,
        Status::SerializationFailure,
        Status::ParseFailure,
        Status::BadExpression,
        Status::InternalFailure,
        Status::Unimplemented,
    ];
    for status in statuses {
        in_request(
            |mock| foreign(mock, "f", Err(status), "why"),
            &format!("call_foreign_function 'f' '' out ; @20 => {} 3", status as i32),
        );
    }
}

#[test]
fn a_guest_that_wants_no_result_gives_null_for_its_place() {
    let setup = in_request(
        |mock| foreign(mock, "f", Ok(()), "result"),
        "call_foreign_function 'f' 'a' 0 0
         call_foreign_function 'f' 'b' 0 20 ; @16 => 0 7
         call_foreign_function 'f' 'c' 16 0 ; @20 => 0 7",
    );
    assert_eq!(setup.mock.take_events(), [called("f", b"a"), called("f", b"b"), called("f", b"c")]);
}

#[test]
fn a_pointer_outside_memory_is_an_invalid_memory_access() {
    let setup = in_request(
        |mock| foreign(mock, "f", Ok(()), "result"),
        "call_foreign_function -8 4 '' out => 6
         call_foreign_function 'f' -8 4 out => 6
         call_foreign_function 'f' 1024 -1 out => 6",
    );
    assert_eq!(setup.mock.take_events(), []);
    in_request(
        |mock| foreign(mock, "f", Ok(()), "result"),
        "call_foreign_function 'f' '' -8 20 => 6
         call_foreign_function 'f' '' 16 -8 => 6
         call_foreign_function 'f' '' 16 262141 => 6",
    );
}

/// A worker whose engine has functions: `double` and `fail`, and `f`, which the host has as well.
fn with_registry(lines: &str) -> Mock {
    let mut engine = EngineConfig::new();
    let functions = engine.foreign_functions();
    functions.insert(
        b"double",
        Arc::new(|argument, out| {
            out.extend_from_slice(argument);
            out.extend_from_slice(argument);
            Ok(())
        }),
    );
    functions.insert(
        b"fail",
        Arc::new(|_, out| {
            out.extend_from_slice(b"why");
            Err(Status::ParseFailure)
        }),
    );
    functions.insert(b"f", Arc::new(|_, _| Err(Status::BadExpression)));
    functions.insert(
        b"f",
        Arc::new(|_, out| {
            out.extend_from_slice(b"registry");
            Ok(())
        }),
    );
    let mock = Mock::default();
    foreign(&mock, "f", Ok(()), "host");
    foreign(&mock, "g", Ok(()), "host");
    let script = script(&[("configure", lines)]);
    let engine = Engine::new(&engine).unwrap();
    let setup = Setup::on_engine(&engine, &mock, &[(&script.wasm, config())]).unwrap();
    script.check_start(&setup.mock);
    mock
}

#[test]
fn a_function_of_the_registry_is_called_without_the_host() {
    let mock = with_registry("call_foreign_function 'double' 'ab' out ; text => 0 [abab]");
    assert_eq!(mock.take_events(), []);
}

#[test]
fn a_function_of_the_registry_may_fail_and_give_a_result() {
    with_registry("call_foreign_function 'fail' '' out ; @20 => 4 3");
}

#[test]
fn a_function_of_the_registry_goes_before_that_of_the_host_and_the_last_of_a_name_counts() {
    let mock = with_registry("call_foreign_function 'f' '' out ; text => 0 [registry]");
    assert_eq!(mock.take_events(), []);
}

#[test]
fn a_name_that_the_registry_does_not_have_is_the_hosts() {
    let mock = with_registry(
        "call_foreign_function 'g' 'x' out ; text => 0 [host]
         call_foreign_function 'doubl' '' out => 1
         call_foreign_function 'double\\0' '' out => 1",
    );
    assert_eq!(mock.take_events(), [called("g", b"x"), called("doubl", b""), called("double\0", b"")]);
}

#[test]
fn a_result_does_not_linger_into_the_next_call() {
    with_registry(
        "call_foreign_function 'double' 'abcdef' out ; text => 0 [abcdefabcdef]
         call_foreign_function 'double' '' out ; @16 @20 => 0 0 0
         call_foreign_function 'double' 'z' out ; text => 0 [zz]",
    );
}

#[test]
fn the_hosts_call_of_a_plugin_arrives_on_the_root_with_id_and_size() {
    let script = script(&[("foreign_function", "say $0 => 1\n say $1 => 77\n say $2 => 3")]);
    let setup = script.setup();
    setup.instances[0].call_foreign(77, b"abc").unwrap();
    script.check(&setup.mock, &["foreign_function"]);
}
