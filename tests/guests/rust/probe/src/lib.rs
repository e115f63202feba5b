// SPDX-License-Identifier: Apache-2.0
//! The probe: does in each callback what a script says, and reports what it saw. `tests/guests/README.md` has the
//! format of scripts and reports.

mod contexts;
mod report;
mod script;
mod state;
mod steps;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|id| Box::new(contexts::Root::new(id)));
}}
