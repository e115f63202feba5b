// SPDX-License-Identifier: Apache-2.0
//! Gives the shared library its soname and keeps it from being unloaded. Writes nothing.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CARGO_PKG_VERSION");

    // Other systems name their libraries otherwise, and have no such flags.
    if var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let part = |name: &str| var(format!("CARGO_PKG_VERSION_{name}")).unwrap_or_default();
    // The number of the binary interface: the major version, before 1.0 the minor one.
    let abi = match part("MAJOR").as_str() {
        "0" => format!("0.{}", part("MINOR")),
        major => major.to_owned(),
    };
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libproxywasm.so.{abi}");
    // wasmtime installs signal handlers for the process: the code behind them must stay when a proxy calls dlclose.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
