// SPDX-License-Identifier: Apache-2.0
//! The committed header and symbol list are those of the source. `UPDATE_HEADER=1 cargo test --test header` rewrites them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn check_or_update(path: &str, generated: &str) {
    let path = root().join(path);
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(&path, generated).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "{} is not current: run `make header` and commit it", path.display());
}

fn generated_header() -> String {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    // In the order in which the header shows them, and not through mod.rs, whose order is rustfmt's.
    let mut bindings = cbindgen::Builder::new().with_config(config);
    for section in [
        "types",
        "version",
        "result",
        "engine",
        "module",
        "vtable",
        "plugin",
        "worker",
        "chain",
        "stream",
        "completion",
    ] {
        bindings = bindings.with_src(root().join(format!("src/ffi/{section}.rs")));
    }
    let mut text = Vec::new();
    bindings.generate().unwrap().write(&mut text);
    String::from_utf8(text).unwrap()
}

/// The functions of the header, sorted.
fn functions(header: &str) -> Vec<String> {
    let mut names: Vec<String> = header
        .lines()
        .filter(|line| !line.starts_with([' ', '/', '*', '#', '}']) && !line.starts_with("typedef"))
        .filter_map(|line| {
            let name = line.split('(').next()?.rsplit([' ', '*']).next()?;
            (line.contains('(') && name.starts_with("proxywasm_")).then(|| name.to_owned())
        })
        .collect();
    names.sort();
    names
}

#[test]
fn header_is_current() {
    check_or_update("include/proxywasm.h", &generated_header());
}

#[test]
fn symbol_list_is_current() {
    let mut list = functions(&generated_header()).join("\n");
    list.push('\n');
    check_or_update("include/proxywasm.sym", &list);
}

#[test]
fn version_macros_are_those_of_the_package() {
    let header = generated_header();
    let value = |name: &str| -> u32 {
        let line = header.lines().find(|line| line.starts_with(&format!("#define {name} "))).expect(name);
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let part = |text: &str| text.parse::<u32>().unwrap();
    let (major, minor, patch) = (
        part(env!("CARGO_PKG_VERSION_MAJOR")),
        part(env!("CARGO_PKG_VERSION_MINOR")),
        part(env!("CARGO_PKG_VERSION_PATCH")),
    );
    assert_eq!(value("PROXYWASM_VERSION_MAJOR"), major);
    assert_eq!(value("PROXYWASM_VERSION_MINOR"), minor);
    assert_eq!(value("PROXYWASM_VERSION_PATCH"), patch);
    assert_eq!(value("PROXYWASM_VERSION_NUMBER"), 10_000 * major + 100 * minor + patch);
    assert_eq!(value("PROXYWASM_ABI_VERSION"), if major == 0 { minor } else { major });
    assert_eq!(value("PROXYWASM_ABI_VERSION"), proxywasm::ffi::proxywasm_abi_version());
}

/// Every exported function runs inside the boundary, except those few that cannot fail and say why.
#[test]
fn every_export_goes_through_the_boundary() {
    const PLAIN: &[&str] = &[
        "proxywasm_version",
        "proxywasm_abi_version",
        "proxywasm_result_name",
        "proxywasm_last_error",
        "proxywasm_engine_tick",
        "proxywasm_plugin_phases",
        "proxywasm_chain_phases",
        "proxywasm_chain_length",
    ];
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("src/ffi")).unwrap() {
        let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for function in source.split("#[no_mangle]\npub extern \"C\" fn ").skip(1) {
            let name = function.split('(').next().unwrap();
            let body = function.split("\n}\n").next().unwrap();
            let guarded = [
                "boundary(|",
                "boundary_void(|",
                "complete(worker, |",
                "proxywasm_stream::headers(",
                "proxywasm_stream::body(",
                "proxywasm_stream::trailers(",
            ];
            assert!(
                guarded.iter().any(|call| body.contains(call)) != PLAIN.contains(&name),
                "{name} must run inside `boundary`"
            );
            seen += 1;
        }
    }
    assert_eq!(
        seen,
        functions(&generated_header()).len(),
        "an exported function is not in the header, or the other way round"
    );
}
