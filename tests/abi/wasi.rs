// SPDX-License-Identifier: Apache-2.0
//! WASI preview 1, under both module names: every function can be linked and answers as toolchains expect.

use crate::hostcalls_imports::caller;
use crate::support::*;
use proxywasm::abi::LogLevel;
use proxywasm::*;

const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// Every function but `proc_exit`: parameters (`l` for 64 bits), and what it answers to zeros.
const FUNCTIONS: &[(&str, &str, u32)] = &[
    ("args_get", "ii", 0),
    ("args_sizes_get", "ii", 0),
    ("environ_get", "ii", 0),
    ("environ_sizes_get", "ii", 0),
    ("clock_res_get", "ii", 0),
    ("clock_time_get", "ili", 0),
    ("fd_advise", "illi", 0),
    ("fd_allocate", "ill", 8),
    ("fd_close", "i", 0),
    ("fd_datasync", "i", 8),
    ("fd_fdstat_get", "ii", 8),
    ("fd_fdstat_set_flags", "ii", 52),
    ("fd_fdstat_set_rights", "ill", 8),
    ("fd_filestat_get", "ii", 8),
    ("fd_filestat_set_size", "il", 8),
    ("fd_filestat_set_times", "illi", 8),
    ("fd_pread", "iiili", 52),
    ("fd_prestat_get", "ii", 8),
    ("fd_prestat_dir_name", "iii", 52),
    ("fd_pwrite", "iiili", 8),
    ("fd_read", "iiii", 52),
    ("fd_readdir", "iiili", 20),
    ("fd_renumber", "ii", 8),
    ("fd_seek", "ilii", 0),
    ("fd_sync", "i", 8),
    ("fd_tell", "ii", 8),
    ("fd_write", "iiii", 8),
    ("path_create_directory", "iii", 58),
    ("path_filestat_get", "iiiii", 58),
    ("path_filestat_set_times", "iiiilli", 58),
    ("path_link", "iiiiiii", 58),
    ("path_open", "iiiiillii", 44),
    ("path_readlink", "iiiiii", 58),
    ("path_remove_directory", "iii", 58),
    ("path_rename", "iiiiii", 58),
    ("path_symlink", "iiiii", 58),
    ("path_unlink_file", "iii", 58),
    ("poll_oneoff", "iiii", 0),
    ("proc_raise", "i", 58),
    ("random_get", "ii", 0),
    ("sched_yield", "", 0),
    ("sock_accept", "iii", 58),
    ("sock_recv", "iiiiii", 58),
    ("sock_send", "iiiii", 58),
    ("sock_shutdown", "ii", 58),
];

/// The import of a function for a script, which then calls it `wasi.name`.
fn import(module: &str, name: &str) -> String {
    let (_, params, _) = FUNCTIONS.iter().find(|(known, ..)| *known == name).unwrap();
    let types: String = params.chars().map(|letter| if letter == 'l' { "i64 " } else { "i32 " }).collect();
    format!("(import \"{module}\" \"{name}\" (func $wasi.{name} (param {types}) (result i32)))\n")
}

/// Runs the lines, in which `wasi.` functions may be called, while the guest is configured, under each module name.
fn in_configure_with(config: &PluginConfig, lines: &str) -> Mock {
    let mut last = Mock::default();
    for module in MODULES {
        let imports: Vec<_> =
            FUNCTIONS.iter().filter(|(name, ..)| lines.contains(&format!("wasi.{name} "))).map(|f| f.0).collect();
        let imports: String = imports.iter().map(|name| import(module, name)).collect();
        let script = script_with("0_2_1", &imports, &[("configure", lines)]);
        let setup = Setup::with(&script.wasm, config.clone());
        script.check_start(&setup.mock);
        last = setup.mock.clone();
    }
    last
}

fn in_configure_of(lines: &str) -> Mock {
    in_configure_with(&config(), lines)
}

#[test]
fn every_function_is_offered_under_both_names_and_answers_as_expected() {
    for module in MODULES {
        let imports: Vec<_> = FUNCTIONS.iter().map(|(name, params, _)| (module, *name, *params)).collect();
        let log = Setup::new(&caller("0_2_1", &imports)).mock.take_log();
        let expected: Vec<_> = FUNCTIONS.iter().map(|(name, _, errno)| format!("{name}={errno:02}")).collect();
        assert_eq!(log, expected, "{module}");
    }
}

#[test]
fn the_environment_is_that_of_the_configuration() {
    let config = config_with(|config| {
        config.environment =
            vec![("KEY".into(), "value".into()), ("EMPTY".into(), "".into()), ("A".into(), "=b".into())];
    });
    in_configure_with(
        &config,
        "wasi.environ_sizes_get 28 32 ; @28 @32 => 0 3 22
         wasi.environ_get 40 100 ; @40 @44 @48 => 0 100 110 117",
    );
    // The bytes themselves.
    let wasm = guest_with(
        "0_2_1",
        &import(MODULES[0], "environ_get"),
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $wasi.environ_get (i32.const 2048) (i32.const 4096)))
             (call $say (i32.load (i32.const 2048)) (i32.const 22)) (i32.const 1))"#,
    );
    assert_eq!(Setup::with(&wasm, config).mock.take_log(), ["KEY=value\0EMPTY=\0A==b\0"]);
}

#[test]
fn an_empty_environment_and_no_arguments_have_no_size() {
    in_configure_of(
        "wasi.environ_sizes_get 16 20 ; @16 @20 => 0 0 0
         wasi.args_sizes_get 16 20 ; @16 @20 => 0 0 0
         wasi.environ_get -8 -8
         wasi.args_get -8 -8",
    );
}

#[test]
fn clocks_0_and_1_are_the_hosts_and_others_are_not_supported() {
    // The mock's clock need not begin at 0.
    let monotonic = MockHost(Mock::default()).now_monotonic_ns().unwrap() + 42;
    let lines = &format!(
        "wasi.clock_time_get 0 1L 16 ; @16L => 0 1700000000000000001
                 wasi.clock_time_get 1 1L 16 ; @16L => 0 {monotonic}
                 wasi.clock_time_get 2 1L 16 ; @16 => 58 7
                 wasi.clock_time_get -1 1L 16 => 58
                 wasi.clock_res_get 0 16 ; @16L => 0 1
                 wasi.clock_res_get 1 16 ; @16L => 0 1
                 wasi.clock_res_get 2 16 => 58"
    );
    for module in MODULES {
        let imports = [import(module, "clock_time_get"), import(module, "clock_res_get")].concat();
        let script = script_with("0_2_1", &imports, &[("configure", lines)]);
        let mock = Mock::default();
        mock.0.borrow_mut().now_realtime = 1_700_000_000_000_000_001;
        mock.0.borrow_mut().now_monotonic += 42;
        let engine = Engine::new(&EngineConfig::new()).unwrap();
        let _setup = Setup::on_engine(&engine, &mock, &[(&script.wasm, config())]).unwrap();
        script.check_start(&mock);
    }
}

#[test]
fn random_bytes_come_up_to_64_kib_at_once() {
    in_configure_of(
        "wasi.random_get 65536 0
         wasi.random_get 65536 32
         wasi.random_get 65536 65536
         wasi.random_get 65536 65537 => 28
         wasi.random_get 65536 66560 => 28
         wasi.random_get -8 0
         wasi.random_get -8 16 => 21
         wasi.random_get 262140 5 => 21",
    );
    let wasm = guest_with(
        "0_2_1",
        &import(MODULES[0], "random_get"),
        r#"(data (i32.const 1024) "zero")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $wasi.random_get (i32.const 2048) (i32.const 32)))
             (call $number (i32.const 1024) (i32.const 4) (i64.extend_i32_u (i64.eqz (i64.or
               (i64.load (i32.const 2048)) (i64.load (i32.const 2072))))))
             (i32.const 1))"#,
    );
    assert_eq!(Setup::new(&wasm).mock.take_log(), ["zero=0"]);
}

#[test]
fn only_stdout_and_stderr_have_a_status_and_can_be_written() {
    in_configure_of(
        "wasi.fd_fdstat_get 1 40 ; @40L @48L @56L => 0 0 64 0
         wasi.fd_fdstat_get 2 40 ; @48L => 0 64
         wasi.fd_fdstat_get 0 40 => 8
         wasi.fd_fdstat_get 3 40 => 8
         wasi.fd_fdstat_get 1 -8 => 21
         wasi.fd_fdstat_get 1 262130 => 21
         wasi.fd_write 3 40 0 16 => 8
         wasi.fd_pwrite 0 40 0 0L 16 => 8
         wasi.fd_allocate 1 0L 0L
         wasi.fd_datasync 2
         wasi.fd_sync 1
         wasi.fd_tell 1 16 ; @16L => 0 0
         wasi.fd_fdstat_set_rights 1 0L 0L
         wasi.fd_filestat_set_size 1 0L
         wasi.fd_filestat_set_times 1 0L 0L 0
         wasi.fd_renumber 1 2 => 58
         wasi.fd_renumber 1 5 => 8
         wasi.fd_filestat_get 1 40 => 8
         wasi.fd_prestat_get 3 40 => 8
         wasi.fd_close 1
         wasi.fd_seek 1 0L 0 16
         wasi.fd_read 0 40 0 16 => 52",
    );
}

#[test]
fn polling_never_waits_and_gives_no_event() {
    in_configure_of(
        "wasi.poll_oneoff 1024 2048 1 16 ; @16 => 0 0
         wasi.poll_oneoff 1024 2048 0 16 ; @16 => 0 0
         wasi.poll_oneoff 1024 2048 1 -8 => 21",
    );
}

#[test]
fn a_pointer_outside_memory_is_a_fault() {
    let config = config_with(|config| config.environment = vec![("A".into(), "b".into())]);
    in_configure_with(
        &config,
        "wasi.args_sizes_get -8 20 => 21
         wasi.args_sizes_get 16 -8 => 21
         wasi.environ_sizes_get -8 20 => 21
         wasi.environ_sizes_get 16 -8 => 21
         wasi.environ_get -8 100 => 21
         wasi.environ_get 40 -8 => 21
         wasi.environ_get 40 262141 => 21
         wasi.clock_time_get 0 0L -8 => 21
         wasi.clock_res_get 0 262137 => 21
         wasi.fd_tell 1 -8 => 21
         wasi.fd_write 1 -8 1 16 => 21
         wasi.fd_write 1 40 0 -8 => 21",
    );
}

/// A guest that writes while it handles request headers; each text goes to a file descriptor in one call.
fn writer(module: &str, writes: &[(u32, &str)]) -> Vec<u8> {
    let (mut data, mut body, mut at) = (String::new(), String::new(), 1024);
    for (fd, text) in writes {
        let hex: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        data += &format!("(data (i32.const {at}) \"{hex}\")\n");
        body += &format!(
            "(i32.store (i32.const 40) (i32.const {at})) (i32.store (i32.const 44) (i32.const {}))
             (drop (call $wasi.fd_write (i32.const {fd}) (i32.const 40) (i32.const 1) (i32.const 48)))\n",
            text.len()
        );
        at += text.len() + 1;
    }
    let callback =
        format!("(func (export \"proxy_on_request_headers\") (param i32 i32 i32) (result i32) {body} (i32.const 0))");
    guest_with("0_2_1", &import(module, "fd_write"), &format!("{data}{callback}"))
}

#[test]
fn what_is_written_is_logged_line_by_line_stdout_as_info_and_stderr_as_error() {
    let writes = [(1, "out\n"), (2, "err\n"), (1, "two\nlines\n"), (1, "\n"), (1, "in "), (1, "pieces\nand a rest")];
    for module in MODULES {
        let setup = Setup::new(&writer(module, &writes));
        setup.http(1).on_headers(Direction::Request, 1, true).unwrap();
        let state = setup.mock.0.borrow();
        let log: Vec<_> = state.log.iter().map(|(level, plugin, id, text)| (*level, &**plugin, *id, &**text)).collect();
        let info = |text| (LogLevel::Info, "test", 2, text);
        let expected = [
            info("out"),
            (LogLevel::Error, "test", 2, "err"),
            info("two"),
            info("lines"),
            info(""),
            info("in pieces"),
            // What is left is logged at the end of the callback.
            info("and a rest"),
        ];
        assert_eq!(log, expected);
    }
}

#[test]
fn the_pieces_of_one_write_are_put_together_and_their_length_is_told() {
    let wasm = guest_with(
        "0_2_1",
        &import(MODULES[0], "fd_write"),
        r#"(data (i32.const 1024) "hello " "" "world\0a" "n")
        (data (i32.const 2048) "\00\04\00\00\06\00\00\00" "\00\00\00\00\00\00\00\00" "\06\04\00\00\06\00\00\00")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (call $status (call $wasi.fd_write (i32.const 1) (i32.const 2048) (i32.const 3) (i32.const 40)))
             (call $number (i32.const 1036) (i32.const 1) (i64.load32_u (i32.const 40)))
             (i32.const 1))"#,
    );
    assert_eq!(Setup::new(&wasm).mock.take_log(), ["hello world", "status=0", "n=12"]);
}

#[test]
fn more_than_1_mib_is_written_in_part() {
    let wasm = guest_with(
        "0_2_1",
        &import(MODULES[0], "fd_write"),
        r#"(data (i32.const 1024) "n")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (memory.grow (i32.const 32)))
             (i32.store (i32.const 40) (i32.const 65536)) (i32.store (i32.const 44) (i32.const 1048570))
             (i32.store (i32.const 48) (i32.const 65536)) (i32.store (i32.const 52) (i32.const 10))
             (call $status (call $wasi.fd_write (i32.const 1) (i32.const 40) (i32.const 2) (i32.const 16)))
             (call $number (i32.const 1024) (i32.const 1) (i64.load32_u (i32.const 16)))
             (i32.const 1))"#,
    );
    let log = Setup::new(&wasm).mock.take_log();
    // A line of 64 KiB is cut off there.
    let lengths: Vec<_> = log.iter().filter(|line| line.starts_with('\0')).map(String::len).collect();
    assert_eq!(lengths, [65536; 16]);
    assert_eq!(log.iter().filter(|line| !line.starts_with('\0')).collect::<Vec<_>>(), ["status=0", "n=1048576"]);
}

#[test]
fn what_is_written_before_a_trap_is_logged() {
    let wasm = guest_with(
        "0_2_1",
        &import(MODULES[0], "fd_write"),
        r#"(data (i32.const 1024) "panicked")
        (data (i32.const 2048) "\00\04\00\00\08\00\00\00")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (drop (call $wasi.fd_write (i32.const 2) (i32.const 2048) (i32.const 1) (i32.const 40)))
             (unreachable))"#,
    );
    let setup = Setup::new(&wasm);
    setup.http(1).on_headers(Direction::Request, 1, true).unwrap();
    let log = setup.mock.take_log();
    assert_eq!(log[0], "panicked");
    assert!(log[1].contains("unreachable"), "{log:?}");
}

#[test]
fn what_is_written_while_the_module_starts_is_logged() {
    for entry in ["_initialize", "_start"] {
        let wasm = guest_with(
            "0_2_1",
            &import(MODULES[0], "fd_write"),
            &format!(
                r#"(data (i32.const 1024) "begun") (data (i32.const 2048) "\00\04\00\00\05\00\00\00")
                (func (export "{entry}")
                  (drop (call $wasi.fd_write (i32.const 1) (i32.const 2048) (i32.const 1) (i32.const 40))))"#
            ),
        );
        assert_eq!(Setup::new(&wasm).mock.take_log(), ["begun"]);
    }
}

#[test]
fn proc_exit_ends_the_vm_and_is_named_as_the_cause() {
    for module in MODULES {
        let wasm = guest_with(
            "0_2_1",
            &format!("(import \"{module}\" \"proc_exit\" (func $exit (param i32)))"),
            r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                 (call $exit (i32.const 3)) (call $status (i32.const 0)) (i32.const 0))"#,
        );
        let setup = Setup::new(&wasm);
        let outcome = setup.http(1).on_headers(Direction::Request, 1, true).unwrap();
        let failure = outcome.failure.unwrap();
        assert_eq!(failure.kind(), ErrorKind::GuestTrap);
        assert!(failure.to_string().contains("proc_exit(3)"), "{failure}");
        assert_eq!(setup.mock.take_log().len(), 1, "one record, and nothing after the exit");
    }
}

#[test]
fn an_unknown_function_is_no_import_of_proxy_wasm() {
    let wasm = guest_with("0_2_1", "(import \"wasi_snapshot_preview1\" \"fd_levitate\" (func (param i32)))", "");
    let error = Setup::try_chain(&[(&wasm, config())]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::DeniedImport);
    assert!(error.to_string().contains("fd_levitate"), "{error}");
}
